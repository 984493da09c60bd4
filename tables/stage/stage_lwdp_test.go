package stage_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestCompareLwdp checks the claims about lwdp in testdata/lwdp.md, which docs/stage.md sums up.
func TestCompareLwdp(t *testing.T) {
	t.Parallel()
	page := must.Get(os.ReadFile("testdata/lwdp.md"))(t)
	var want []string
	_, table, _ := strings.Cut(string(page), "| what changes between two runs |")
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]+) \| (right|wrong)\b`).FindAllStringSubmatch(table, -1) {
		want = append(want, row[1]+": "+row[2])
	}
	cmd := exec.CommandContext(t.Context(), procs.Python(t, "lwdp"), "-W", "ignore", "testdata/cases.py", "lwdp.stage")
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if got := strings.TrimSpace(string(out)); err != nil || len(want) == 0 || got != strings.Join(want, "\n") {
		t.Errorf("the comparison printed (error %v)\n%s\nwant\n%s\nits standard error:\n%s", err, got, strings.Join(want, "\n"), stderr.String())
	}
}
