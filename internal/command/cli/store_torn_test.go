package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/command/cliutil"
)

// TestTornEnd checks that a command says so if it opens a store whose last record is incomplete, because the record may
// have been acknowledged. An intact store gets no warning.
func TestTornEnd(t *testing.T) {
	for _, args := range [][]string{{"keys"}, {"verify"}, {"append", "k"}} {
		_, killed := smallStores(t)
		for _, isTorn := range []bool{false, true} {
			file := filepath.Join(killed, "wal-0")
			if isTorn {
				log, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				flipBit(t, file, len(bytes.TrimRight(log, "\x00"))-1)
			}
			store := filepath.Join(t.TempDir(), "store")
			if err := os.CopyFS(store, os.DirFS(killed)); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			code := run(t.Context(), append(args, "--store", "log:"+store), &app{in: os.Stdin, out: &out, err: &errs, open: openStore})
			if code != cliutil.ExitOK || strings.Contains(errs.String(), "partd: warning: skipped an incomplete record") != isTorn || isTorn && !strings.Contains(errs.String(), store) {
				t.Errorf("%s of a store whose end is torn (%v): exit code %d, standard error %q", args[0], isTorn, code, &errs)
			}
		}
	}
}
