#!/bin/sh
# Fine-tunes a model on this folder with TRL:
#   sh trl_sft.sh MODEL OUT [further options of trl sft]
# A base model whose tokenizer has no chat template gets that of chat_template.jinja.
set -e
model=$1
out=$2
shift 2
here=$(dirname "$0")
python=$(dirname "$(command -v trl)")/python
[ -x "$python" ] || python=python3
templated=$("$python" -c 'import sys, transformers
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
print("yes" if tokenizer.chat_template else "no")' "$model")
if [ "$templated" = no ]; then
    set -- --chat_template_path "$here/chat_template.jinja" "$@"
fi
exec trl sft --model_name_or_path "$model" --output_dir "$out" \
    --dataset_name "$here"@OPTIONS@ "$@"
