"""sft-diversity: select, fine-tune, score and export diverse subsets of SFT data.

The verbs of the command line are functions here, loaded on first use so that importing the
package stays fast.
"""

from __future__ import annotations
