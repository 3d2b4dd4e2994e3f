/**
 * What shells are told about completion: each asks this command what can come next.
 *
 * @module
 */

import type { SHELLS } from "./known_values.ts";
import { FILES } from "./words.ts";

const BASH = `# bash completion for quasaur: source <(quasaur completion bash)
_quasaur() {
  local line word current before candidates=() words=()
  # Bash takes words apart at ":" and "=", which this command does not.
  read -ra words <<< "\${COMP_LINE:0:COMP_POINT}"
  case "\${COMP_LINE:0:COMP_POINT}" in *[[:space:]]) words+=("") ;; esac
  current=\${words[-1]}
  before=
  case $current in *[:=]*) before=\${current%"\${current##*[:=]}"} ;; esac
  COMPREPLY=()
  while IFS= read -r line; do
    if [ "$line" = "${FILES}" ]; then
      compopt -o default 2> /dev/null
      return
    fi
    word=\${line%%$'\\t'*}
    case $word in *=) compopt -o nospace 2> /dev/null ;; esac
    COMPREPLY+=("\${word#"$before"}")
  done < <("\${words[0]}" __complete -- "\${words[@]:1}" 2> /dev/null)
}
complete -F _quasaur quasaur
`;

const ZSH = `#compdef quasaur
# zsh completion for quasaur: source <(quasaur completion zsh), after compinit
_quasaur() {
  local line
  local -a candidates
  for line in "\${(@f)$("\${words[1]}" __complete -- "\${(@)words[2,CURRENT]}" 2> /dev/null)}"; do
    case $line in
    ${FILES})
      _files
      return
      ;;
    ?*) candidates+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}") ;;
    esac
  done
  _describe -t candidates quasaur candidates -S ' '
}
if [ "$funcstack[1]" = _quasaur ]; then
  _quasaur "$@"
else
  compdef _quasaur quasaur
fi
`;

const FISH = `# fish completion for quasaur: quasaur completion fish | source
function __quasaur_complete
  set -l words (commandline -opc)
  set -l lines ($words[1] __complete -- $words[2..-1] (commandline -ct) 2> /dev/null)
  if test "$lines" = "${FILES}"
    __fish_complete_path (commandline -ct)
  else if test (count $lines) -gt 0
    printf '%s\\n' $lines
  end
end
complete -c quasaur -f -a '(__quasaur_complete)'
`;

/** The script of each shell. */
export const COMPLETION_SCRIPTS: Readonly<Record<typeof SHELLS[number], string>> = {
  bash: BASH,
  zsh: ZSH,
  fish: FISH,
};
