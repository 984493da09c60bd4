package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestTornTail checks that a command says so if it drops an incomplete record at the end of the tail, because the
// record may have been acknowledged.
func TestTornTail(t *testing.T) {
	dir, torn := t.TempDir(), filepath.Join(t.TempDir(), "torn")
	store := tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
	for n := range int64(3) {
		tabletest.Put(t, store.Bucket(""), "t", tables.PutAppend, n)
	}
	must.Do(t, os.CopyFS(torn, os.DirFS(dir))) // as a killed process leaves it
	logs := must.Get(filepath.Glob(filepath.Join(torn, "tail", "wal-*")))(t)
	for _, file := range logs {
		log := must.Get(os.ReadFile(file))(t)
		if used := len(bytes.TrimRight(log, "\x00")); used > 0 {
			log[used-1] ^= 1
			must.Do(t, os.WriteFile(file, log, 0o600))
		}
	}
	out, stderr, code := command(t, "", "get", "t", "--dir", torn, "--format", "csv")
	if code != cliutil.ExitOK || out != "n,s\n0,row 0\n1,row 1\n" || !strings.Contains(stderr, "partd-tables: warning: logstore: skipped a torn record") {
		t.Errorf("get of a table whose tail is torn: exit code %d, rows %q, standard error %q, want two rows and a warning", code, out, stderr)
	}
}
