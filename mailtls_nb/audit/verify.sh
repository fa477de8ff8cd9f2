#!/bin/bash
# verify.sh FOLDER ALLOWED_SIGNERS HEAD [SINCE UNTIL]   HEAD: "NUMBER DIGEST" kept elsewhere, or "" for none
[ -r "$2" ] && signers=$(realpath "$2") && cd "$1" && [ -r log.jsonl ] || exit 2; export LC_ALL=C TZ=UTC; shopt -s dotglob nullglob; declare -A open; head=$3 n=0 m=0 last=$(printf '0%.0s' {1..64}) runs=" "
bad() { echo "NOT AS IT WAS: $*"; exit 1; }; [ -z "$(tail -c 1 log.jsonl)" ] && tr -d '\0' <log.jsonl | cmp -s - log.jsonl || bad "log.jsonl: it does not end with a whole line, or holds NUL"
while IFS= read -r line; do
  IFS=$'\t' read -r number what run at end record before < <(jq -r '[.n, .what, .run, .begun, .ended // "-", .record, .previous] | @tsv' <<<"$line")
  [ "$number $before" = "$((n += 1)) $last" ] || bad "log.jsonl, line $n does not follow the line before it"
  last=$(sha256sum <<<"$line" | cut -c -64) runs+="$run "; [ "$head" != "$n $last" ] || head=
  [ -z "$4$5" ] || [[ ! $at < $4 && $at < ${5:-9} ]] || continue; [ "$what" != begun ] || { open[$run]=$record; continue; }; unset "open[$run]"; m=$((m + 1))
  who=$(ssh-keygen -Y find-principals -f "$signers" -s "$run/record.json.sig" -O verify-time="${end//[!0-9]/}" | head -n 1)
  ssh-keygen -q -Y verify -n mailtls-nb-audit -f "$signers" -I "$who" -s "$run/record.json.sig" -O verify-time="${end//[!0-9]/}" <"$run/record.json" || bad "$run: its signature"
  [ "$(jq -r .predicate.previous.entry "$run/record.json")" = "$before" ] || bad "$run: its place in the chain"
  (cd "$run" && { echo "$record  record.json"; jq -r '.subject[] | .digest.sha256 + "  " + .name' record.json; } | sha256sum -c --quiet --strict) || bad "$run: a file"
  diff <(jq -r '.subject[].name, "record.json", "record.json.sig"' "$run/record.json" | sort) <(find "$run" -type f -printf '%P\n' | sort) || bad "$run: its files"
done <log.jsonl
for run in "${!open[@]}"; do echo "begun and not ended: $run"; sha256sum -c --quiet <<<"${open[$run]}  $run/record.json" || bad "$run"; done
for run in */; do [[ $runs = *" ${run%/} "* ]] || bad "$run: log.jsonl does not tell of it"; done; [ -z "$head" ] || bad "the line of the head is not there: cut off, or altered"; echo "as it was: $m runs, $n lines up to $last"
