package cloud

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// withClouds is a source file that makes an example open stores in buckets. docs/cluster.md quotes it.
const withClouds = `package main

import (
	"context"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/stores"
)

func init() {
	open = func(ctx context.Context, url string) (partd.Partd, error) {
		return stores.NewSet(cloud.Schemes()...).Open(ctx, url, nil)
	}
}
`

// buildExample builds an example together with the source file withClouds.
func buildExample(t *testing.T, bin, name string) {
	t.Helper()
	source := must.Get(filepath.Abs("../../examples/" + name))(t)
	page, err := os.ReadFile("../../docs/cluster.md")
	if err != nil || !strings.Contains(string(page), "```go\n"+withClouds+"```\n") {
		t.Fatalf("docs/cluster.md does not contain the source file withClouds (error %v)", err)
	}
	opener := filepath.Join(t.TempDir(), "clouds.go")
	must.Do(t, os.WriteFile(opener, []byte(withClouds), 0o600))
	workDir := must.Get(os.Getwd())(t)
	dir := filepath.Join(workDir, "cmd", "example-"+name) // this directory does not exist
	overlay := must.Get(json.Marshal(map[string]any{"Replace": map[string]string{dir + "/main.go": source + "/main.go", dir + "/clouds.go": opener}}))(t)
	file := filepath.Join(t.TempDir(), "overlay.json")
	must.Do(t, os.WriteFile(file, overlay, 0o600))
	cmd := exec.Command("go", "build", "-overlay", file, "-o", filepath.Join(bin, name), "./cmd/example-"+name)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the example: %v\n%s", err, out)
	}
}

// TestExamples checks the output of examples that run over a bucket, with a separate process for each task.
func TestExamples(t *testing.T) {
	g := startGateway(t)
	bin, dir := t.TempDir(), t.TempDir()
	buildExample(t, bin, "tasks")
	for i := range 4 {
		var text strings.Builder
		for j := range 1000 {
			fmt.Fprintf(&text, "w%d of%d x%d\n", (i+1)*j*7919%900, j%30, j)
		}
		must.Do(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("a%d.txt", i)), []byte(text.String()), 0o600))
	}
	scripts := must.Get(filepath.Abs("../../examples/tasks"))(t)
	for name, c := range map[string]struct{ needs, command, want string }{
		"count": {"sh", scripts + "/count.sh a?.txt | sort", `cat a?.txt | tr -s ' ' '\n' | sort | uniq -c | awk '{print $1, $2}' | sort`},
		"join":  {"parallel", scripts + "/join.sh a1.txt a2.txt | sort", "sort a1.txt >l; sort a2.txt >r; join -t ' ' l r | sort"},
		"parts": {"sh", `for f in a?.txt; do tasks map --server $SERVER --job sort $f & done; wait
			for i in 0 1 2; do tasks reduce --server $SERVER --job sort --tasks 4 --part $i/3 --share s$i >out$i & done; wait
			tasks verify --server $SERVER --tasks 4 s0 s1 s2 && cat out?`, "sort a?.txt"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(c.needs); err != nil {
				if os.Getenv("PARTD_REQUIRE_ALL") != "" {
					t.Fatal("PARTD_REQUIRE_ALL is set, but ", err)
				}
				t.Skip(err)
			}
			sh := func(command string) []byte {
				cmd := exec.Command("sh", "-c", command)
				cmd.Dir = dir
				cmd.Stderr = os.Stderr
				cmd.Env = append(os.Environ(), "LC_ALL=C", "SERVER="+g.url(name, ""), "PATH="+bin+":"+os.Getenv("PATH"))
				out := must.Get(cmd.Output())(t)
				return out
			}
			if got, want := sh(c.command), sh(c.want); !bytes.Equal(got, want) || len(want) < 1000 {
				t.Errorf("the example's output (%d bytes) differs from that of the shell commands (%d bytes)", len(got), len(want))
			}
		})
	}
}
