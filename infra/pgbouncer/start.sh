#!/bin/sh
# Starts the pooler of docker-compose.yml: writes the list of roles that may log in, from the passwords in its environment.
set -eu
umask 077
settings=$(dirname "$0")/pgbouncer.ini

user() { # name, password: one line, in which a quotation mark is written twice
    printf '"%s" "%s"\n' "$1" "$(printf '%s' "$2" | sed 's/"/""/g')"
}

{
    user hybrid_application "${APPLICATION_PASSWORD:?}"
    user hybrid_searcher "${SEARCHER_PASSWORD:?}"
} > "$(sed -n 's/^auth_file = //p' "$settings")"
unset APPLICATION_PASSWORD SEARCHER_PASSWORD

exec pgbouncer "$settings"
