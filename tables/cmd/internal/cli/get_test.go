package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/command/cliutil"
)

// TestConvert checks that convert infers the types of text columns, or uses the types of --like.
func TestConvert(t *testing.T) {
	file, typesFile := writeTemp(t, "a.csv", "code,n\n007,1\n008,2\n"), filepath.Join(t.TempDir(), "like.arrow")
	if got := mustRun(t, "", "convert", file, "--to-format", "jsonl"); got != "{\"code\":\"007\",\"n\":1}\n{\"code\":\"008\",\"n\":2}\n" {
		t.Errorf("convert: got %q, want %q", got, "{\"code\":\"007\",\"n\":1}\n{\"code\":\"008\",\"n\":2}\n")
	}
	mustRun(t, "", "convert", file, "-o", typesFile)
	if got := mustRun(t, "code,n\n1,2\n", "convert", "-", "--from", "csv", "--like", typesFile, "--to-format", "jsonl"); got != "{\"code\":\"1\",\"n\":2}\n" {
		t.Errorf("convert - --from csv: got %q, want %q", got, "{\"code\":\"1\",\"n\":2}\n")
	}
	if got := mustRun(t, "", "convert", typesFile); got != "code,n\n007,1\n008,2\n" {
		t.Errorf("convert: got %q, want %q", got, "code,n\n007,1\n008,2\n")
	}
	if got := mustRun(t, "", "convert", typesFile, "--where", "n > 1 and code != ''", "--columns", "n,code"); got != "n,code\n2,008\n" {
		t.Errorf("convert --where --columns: got %q", got)
	}
	if got := mustRun(t, "", "convert", file, "--columns", "n"); got != "n\n1\n2\n" {
		t.Errorf("convert --columns: got %q", got)
	}
	if _, stderr, code := command(t, "a\n", "convert", "-"); code != cliutil.ExitUsage || !strings.Contains(stderr, "use --from") {
		t.Errorf("convert -: exit code %d, stderr %q, want a usage error about --from", code, stderr)
	}
}
