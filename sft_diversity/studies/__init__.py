"""Study: a grid of subsets, each trained on and scored. It chains verbs, so it stands above."""
