package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/servercli"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestMain makes the test binary act as the example or the server.
func TestMain(m *testing.M) {
	example := func([]string) error { main(); return nil }
	procs.Roles{"tasks": example, "server": procs.Program(servercli.Main)}.Main(m)
}

// TestScripts runs the scripts as the README does, and compares their output with the output of
// the system's tools. It kills the first attempt of some tasks.
func TestScripts(t *testing.T) {
	bin := t.TempDir()
	procs.Link(t, bin, "tasks")
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	// This wrapper kills the first attempt of every second task shortly after its start.
	killer := filepath.Join(t.TempDir(), "tasks")
	script := fmt.Sprintf(`#!/bin/sh
for last; do :; done
case "$1 $last" in map*[13579].txt | map*-a[aceg])
	if mkdir "%s/$(basename "$last").killed" 2>/dev/null; then
		"%s/tasks" "$@" & sleep 0.02; kill -9 $!; wait $!; exit 1
	fi
esac
exec "%[2]s/tasks" "$@"
`, t.TempDir(), bin)
	if err := os.WriteFile(killer, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, needs, command, want string
		repeated                   bool // whether to repeat a failed command
	}{
		{"count", "sort", `"$WD"/count.sh a?.txt | sort`, `cat a?.txt | tr -s ' ' '\n' | sort | uniq -c | awk '{print $1, $2}' | sort`, false},
		{"join", "parallel", `"$WD"/join.sh a1.txt a2.txt | sort`, "sort a1.txt >l; sort a2.txt >r; join -t ' ' l r | sort", false},
		{"sort", "make", `make -s -j 4 -f "$WD"/Makefile FILES="$(echo a?.txt)" && cat sorted.txt`, "sort a?.txt", true},
		{"count in parts", "sort", `for f in a?.txt; do tasks map --server $SERVER --job count $f || tasks map --server $SERVER --job count $f; done
			for i in 0 1 2; do tasks reduce --server $SERVER --job count --tasks 6 --part $i/3 --share s$i >out$i & done; wait
			v="tasks verify --server $SERVER --tasks 6"; ! $v s0 s2 2>said && ! $v s0 s1 s1 2>>said && ! $v s0 s1 s2 s2 2>>said &&
			[ $(grep -c 'the pieces of 6 tasks: ' said) = 3 ] && $v s0 s1 s2 && sort out?`, `cat a?.txt | tr -s ' ' '\n' | sort | uniq -c | awk '{print $1, $2}' | sort`, false},
		{"shuffle in parts", "sort", `for f in a?.txt; do tasks map --server $SERVER --job shuffle $f; done
			for i in 0 1 2; do tasks reduce --server $SERVER --job shuffle --tasks 6 --part $i/3 --share s$i >out$i & done; wait
			tasks verify --server $SERVER --tasks 6 s0 s1 s2
			for i in 0 1 2; do cut -d ' ' -f 1 out$i | sort -u; done | sort | uniq -d # prints words that are in several parts
			sort out?`, `sort a?.txt`, false},
	} {
		for _, servers := range []int{1, 3} { // several servers share the partitions
			t.Run(fmt.Sprint(c.name, " servers=", servers), func(t *testing.T) {
				procs.LookPath(t, c.needs)
				dir := t.TempDir()
				for i := range 6 {
					writeLines(t, filepath.Join(dir, fmt.Sprintf("a%d.txt", i)), uint64(i))
				}
				var processes []*procs.Server
				var addresses []string
				for range servers {
					p, err := procs.StartServer(t.Context(), procs.Command("server", "--listen", "tcp://127.0.0.1:0", "--store", "log:"+t.TempDir()+"/data"), 1)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(p.Kill)
					_, address := p.Address()
					processes, addresses = append(processes, p), append(addresses, address)
				}
				url := "tcp://" + strings.Join(addresses, ",")
				sh := func(command string) ([]byte, error) {
					cmd := exec.Command("sh", "-c", command)
					cmd.Dir = dir
					var stderr bytes.Buffer
					cmd.Stderr = &stderr
					cmd.Env = append(os.Environ(), "LC_ALL=C", "SERVER="+url, "WD="+wd, "PATH="+filepath.Dir(killer)+":"+bin+":"+os.Getenv("PATH"))
					out, err := cmd.Output()
					if err != nil {
						err = fmt.Errorf("%w: %s", err, &stderr)
					}
					return out, err
				}
				got, err := sh(c.command)
				for range 6 {
					if err != nil && c.repeated {
						got, err = sh(c.command)
					}
				}
				want, wantErr := sh(c.want)
				if err := errors.Join(err, wantErr); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) || len(want) < 1000 {
					t.Errorf("the script printed %d bytes, which differ from the %d bytes of the system's tools", len(got), len(want))
				}
				for _, p := range processes {
					if err := p.Stop(time.Minute); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// TestInvalidArguments checks that run immediately reports mistakes that would lose lines or make it wait for an hour.
func TestInvalidArguments(t *testing.T) {
	dir := t.TempDir()
	lines, share := filepath.Join(dir, "lines"), filepath.Join(dir, "share")
	if err := errors.Join(os.WriteFile(lines, []byte("a b\n"), 0o600), os.WriteFile(share, []byte("{}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	defer func(original func(context.Context, string) (partd.Partd, error)) { open = original }(open)
	open = func(context.Context, string) (partd.Partd, error) { return partd.NewDict(), nil }
	for _, c := range []struct{ args, want string }{
		{"map --job join --side Right " + lines, `unknown side "Right"`},
		{"reduce --job count", "--tasks is missing"},
		{"verify " + share, "--tasks is missing"},
		{"explain --job count", "write tasks map FILE, tasks reduce"},
		{"reduce --job words --tasks 1", `unknown job "words"`},
		{"reduce --job count --tasks 1 --timeout 1ms --part 0/2 --share " + share, "0 of 1 have committed"},
	} {
		must.Fail(t, run(t.Context(), strings.Fields(c.args)), c.want, "run(%s)", c.args)
	}
	// A failed reader must remove an earlier reader's share.
	must.Fail(t, must.Err(os.Stat(share)), os.ErrNotExist, "Stat of the earlier share")
}

func writeLines(t *testing.T, name string, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	var text strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&text, "w%d of%d x%d\n", rnd.IntN(20_000), rnd.IntN(100), i)
	}
	if err := os.WriteFile(name, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}
