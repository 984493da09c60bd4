package cli

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/stores"
)

// TestVerifyThroughServer checks that if a server has a store open, partd verify checks it through the server. It
// reports the file and offset of damage, but not the directory of the store.
func TestVerifyThroughServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	store, err := stores.Open(t.Context(), "zstd+log:"+dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Append(t.Context(), partd.Entry{Key: "a", Value: randomBytes(100_000)}, partd.Entry{Key: "b", Value: randomBytes(3000)}); err != nil {
		t.Fatal(err)
	}
	if err := partd.Flush(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	url, _ := serve(t, store)
	verifyURL := func(url string) (v verification, code int, stderr string) {
		var out, errs bytes.Buffer
		code = run(t.Context(), []string{"verify", "--json", "--store", url}, &app{out: &out, err: &errs, open: stores.OpenWithDefaults})
		if out.Len() > 0 {
			if err := json.Unmarshal(out.Bytes(), &v); err != nil {
				t.Fatalf("parsing the output of verify: %v: %s", err, out.Bytes())
			}
		}
		return v, code, errs.String()
	}
	v, code, stderr := verifyURL(url)
	if code != cliutil.ExitOK || !v.OK || v.Keys != 2 || v.Records != 2 || v.Segments != 1 || v.Store != url {
		t.Fatalf("verify of an intact store: exit code %d, %+v, %s", code, v, stderr)
	}
	if _, code, stderr := verifyURL("log:" + dir); code != cliutil.ExitFailed || !strings.Contains(stderr, "use the server's URL, such as tcp://") {
		t.Errorf("verify of the directory while the server runs: exit code %d, %s; want advice to use its URL", code, stderr)
	}
	files, err := filepath.Glob(dir + "/blob-*")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{^data[50_000]}, 50_000); err != nil {
		t.Fatal(err)
	}
	v, code, stderr = verifyURL(url)
	if code != cliutil.ExitFailed || v.OK || len(v.Damage) == 0 || v.Damage[0].File != filepath.Base(files[0]) || v.Damage[0].Offset == nil {
		t.Errorf("verify after damage to %s: exit code %d, %+v, %s; want damage to this file with its offset", files[0], code, v, stderr)
	}
	if strings.Contains(stderr, dir) {
		t.Errorf("the message discloses the directory of the store: %s", stderr)
	}
	plain, _ := serve(t, partd.NewDict())
	if _, code, stderr := verifyURL(plain); code != cliutil.ExitFailed || !strings.Contains(stderr, "keeps no checksums") {
		t.Errorf("verify of a store without checksums: exit code %d, %s", code, stderr)
	}
}

// randomBytes returns bytes that do not compress.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}
