# Shared by the service scripts: the cache, packages by name, free ports, processes with a pid file.
# Exit code 77 means "skipped: a tool is missing", as in the GNU test harness.

SERVICES_DIR="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
SERVICES_CACHE="${ASSAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/assay}/services"
SKIPPED=77

say() { printf '%s\n' "$*" >&2; }

die() {
  say "$(basename "$0"): $*"
  exit 1
}

skip() {
  say "skipped: $*"
  exit "$SKIPPED"
}

# need COMMAND PACKAGE...: COMMAND is there, or is installed through apt-get by name when we are root.
need() {
  local command="$1"
  shift
  command -v "$command" >/dev/null 2>&1 && return 0
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    skip "$command is missing; install $*"
  fi
  say "installing $*"
  {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" ||
      { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; }
  } >/dev/null 2>&1 || skip "$command is missing and apt-get could not install $*"
  command -v "$command" >/dev/null 2>&1 || skip "$* is installed but $command is not on the path"
}

# once NAME KEY COMMAND...: runs COMMAND with a folder as last argument, unless that was done before with the same KEY.
# Prints the folder. Safe against concurrent callers, and against being killed half-way.
once() {
  local name="$1" key="$2" folder="$SERVICES_CACHE/$1"
  shift 2
  mkdir -p "$SERVICES_CACHE"
  (
    flock 9
    if [ "$(cat "$folder/.done" 2>/dev/null)" != "$key" ]; then
      rm -rf "$folder"
      mkdir -p "$folder"
      if ! "$@" "$folder" >"$folder.log" 2>&1; then
        tail -n 20 "$folder.log" >&2
        say "could not install $name (above: the end of $folder.log)"
        exit 1
      fi
      printf '%s' "$key" >"$folder/.done"
    fi
  ) 9>"$folder.lock" || return 1
  printf '%s\n' "$folder"
}

# maven_folder NAME: the files of maven/NAME.xml and of what they depend on, copied into a folder that is printed.
maven_folder() {
  need java openjdk-17-jre-headless
  need mvn maven
  local pom="$SERVICES_DIR/maven/$1.xml"
  once "maven-$1" "$(sha256sum <"$pom")" copy_artifacts "$pom"
}

copy_artifacts() {
  local pom="$1" folder="$2"
  mvn -q -B -f "$pom" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$folder" || return 1
  local archive
  for archive in "$folder"/*.tar.gz; do
    [ -e "$archive" ] || continue
    tar -xzf "$archive" -C "$folder" && rm "$archive" || return 1
  done
}

# A port that nothing listens on now. Ports are handed out from outside the range of outgoing connections.
free_port() {
  local port
  for _ in $(seq 200); do
    port=$((10240 + (RANDOM * 32768 + RANDOM) % 20000))
    listening "$port" || {
      printf '%s\n' "$port"
      return 0
    }
  done
  die "no free port found"
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A service keeps `pid` in its folder: the pid, and the start time of the process, so that a pid that was
# given to another process is never taken for ours.
started_at() { cut -d ' ' -f 22 "/proc/$1/stat" 2>/dev/null; }

write_pid() { printf '%s %s\n' "$2" "$(started_at "$2")" >"$1/pid"; }

running_pid() {
  local pid at
  read -r pid at 2>/dev/null <"$1/pid" || return 1
  [ -n "$at" ] && [ "$(started_at "$pid")" = "$at" ] && [ "$(cut -d ' ' -f 3 "/proc/$pid/stat" 2>/dev/null)" != Z ] &&
    printf '%s\n' "$pid"
}

# launch DIR COMMAND...: in the background, detached from this shell's output; its own goes to DIR/log.
launch() {
  local dir="$1"
  shift
  setsid "$@" >>"$dir/log" 2>&1 </dev/null &
  write_pid "$dir" "$!"
}

# wait_until SECONDS WHAT DIR COMMAND...: polls COMMAND while the process of DIR lives.
wait_until() {
  local deadline=$((SECONDS + $1)) what="$2" dir="$3"
  shift 3
  until "$@" >/dev/null 2>&1; do
    if ! running_pid "$dir" >/dev/null; then
      tail -n 20 "$dir/log" >&2
      die "$what ended at start (above: the end of $dir/log)"
    fi
    if [ "$SECONDS" -ge "$deadline" ]; then
      tail -n 20 "$dir/log" >&2
      die "$what is not ready in time (above: the end of $dir/log)"
    fi
    sleep 0.2
  done
}

# end SIGNAL DIR SECONDS: signals the process of DIR and waits for its end; SIGKILL when it takes longer.
end() {
  local signal="$1" dir="$2" deadline=$((SECONDS + $3)) pid
  pid="$(running_pid "$dir")" || {
    rm -f "$dir/pid"
    return 0
  }
  kill -s "$signal" "$pid" 2>/dev/null || true
  while running_pid "$dir" >/dev/null; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      say "process $pid did not end in time: killed"
      kill -s KILL "$pid" 2>/dev/null || true
      deadline=$((SECONDS + 10))
    fi
    sleep 0.1
  done
  rm -f "$dir/pid"
}
