package pull

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/tables/internal/content"
)

// TestServesFilesAlone checks that the server serves only files of the store, whatever
// the path, and nothing without the token.
func TestServesFilesAlone(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	n := openNode(t, t.TempDir(), Options{Registry: url, Token: "right"})
	mustSave(t, n, "x", 0, "a=1,2")
	if err := os.WriteFile(filepath.Join(n.disk.dir, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	hash := filepath.Base(filesOf(t, n)[0])
	ask := func(path, token string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.Address(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Opaque = path // sent unchanged
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		a, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		b, _ := io.ReadAll(a.Body)
		return a.StatusCode, string(b)
	}
	for _, token := range []string{"", "wrong", "righ", "right "} {
		for _, path := range []string{filePath + hash, headPath + keyOf("x"), verifyPath} {
			if code, _ := ask(path, token); token != "right " && code != http.StatusUnauthorized {
				t.Errorf("%s with token %q: %d", path, token, code)
			}
		}
	}
	if code, b := ask(filePath+hash, "right"); code != http.StatusOK || !strings.HasPrefix(b, "PAR1") {
		t.Errorf("%d", code)
	}
	for _, path := range []string{
		"../id", "..%2fid", "%2e%2e/id", "..%2f..%2fsecret", "/etc/passwd", "%2fetc%2fpasswd", strings.ToUpper(hash), hash + "/", hash[:63], hash + "0",
		"", ".", "%00", strings.Repeat("a", 64) + "%00", "../heads/" + keyOf("x"), "..%5cid",
	} {
		if code, b := ask(filePath+path, "right"); code == http.StatusOK || strings.Contains(b, n.disk.id) || strings.Contains(b, "secret") {
			t.Errorf("%q: %d %q", path, code, b)
		}
	}
	// A node with the wrong token gets an error and returns it.
	other := openNode(t, t.TempDir(), Options{Registry: url, Token: "wrong"})
	var failed *SyncError
	if _, err := other.Load(t.Context(), "x", always, always); !errors.As(err, &failed) || len(failed.Causes) != 1 || !strings.Contains(err.Error(), "401") {
		t.Error(err)
	}
	if _, err := Open(t.Context(), t.TempDir(), &Options{Registry: url, Listen: "0.0.0.0:0", Advertise: "x:1"}); err == nil || !strings.Contains(err.Error(), "Token") {
		t.Errorf("without a token beyond this machine: %v", err)
	}
}

// TestHostilePeers checks that a Load returns the saved rows or a clear error whatever a
// peer sends, and never allocates the memory or disk space that the peer claims.
func TestHostilePeers(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	good := openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, good, "x", 0, "a=1,2,3")
	want := load(t, good, "x", always, always)
	rec := good.reg.table(keyOf("x")).record
	raw, err := readAll(good.disk.Open(t.Context(), rec.file()))
	if err != nil {
		t.Fatal(err)
	}
	endless := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"endless":   endless,
		"wrong":     func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("x", int(rec.Size))) },
		"short":     func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") },
		"lies long": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "999999999999999") },
		"lies short": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			fmt.Fprint(w, "xxx")
		},
		"redirects": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		},
		"range": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-9/10")
			w.WriteHeader(http.StatusPartialContent)
		},
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a newer head": func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.URL.Path, headPath) {
				http.NotFound(w, r)
				return
			}
			_ = json.NewEncoder(w).Encode(record{Name: "x", Version: 99, Manifest: rec.Manifest, Size: 1 << 60})
		},
		"a head of another": func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(record{Name: "../../x", Version: 99, Manifest: "../../id", Size: 10})
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := openNode(t, t.TempDir(), Options{Registry: url, Lease: time.Hour})
			peer := hostile(t, n, h)
			from := []peerOf{{"hostile", peer.URL}}
			if err := n.fetch(t.Context(), rec.file(), from); !errors.Is(err, ErrSyncFailed) {
				t.Errorf("from the hostile one alone: %v", err)
			}
			entries, err := os.ReadDir(filepath.Join(n.disk.dir, "files"))
			if err != nil || len(entries) != 0 {
				t.Errorf("%v is placed, %v", entries, err)
			}
			for range 3 { // the order of the peers is random
				if got := load(t, n, "x", always, always); got != want {
					t.Errorf("%q", got)
				}
				if err := os.RemoveAll(filepath.Join(n.disk.dir, "files")); err != nil {
					t.Fatal(err)
				}
				if err := os.Mkdir(filepath.Join(n.disk.dir, "files"), 0o777); err != nil {
					t.Fatal(err)
				}
			}
		})
	}

	// Invalid manifests.
	lines := strings.SplitAfter(string(raw), "\n")
	file := func(change string) string { return lines[0] + change + "\n" }
	of := func(size, rows, lo, hi int64, hash string) string {
		b, _ := json.Marshal(dataFile{content.Named{Hash: hash, Size: size}, rows, lo, hi})
		return string(b)
	}
	ok := strings.Repeat("a", 64)
	for name, text := range map[string]string{
		"empty": "", "no JSON": "x\n", "another name": strings.Replace(string(raw), `"name":"x"`, `"name":"y"`, 1),
		"10^12 files claimed": file(`{"files":1000000000000}`), "no files after all": strings.Repeat("{}\n", 1<<20),
		"traversal": file(of(1, 1, 0, 0, "../../../etc/passwd")), "negative size": file(of(-1, 1, 0, 0, ok)), "no rows": file(of(1, 0, 0, 0, ok)),
		"turned around": file(of(1, 1, 2, 1, ok)), "overlapping": file(of(1, 1, 0, 5, ok) + "\n" + of(1, 1, 5, 6, ok)),
		"a long line": lines[0] + strings.Repeat(" ", maxLine+1), "a damaged schema": strings.Replace(string(raw), `"schema":"`, `"schema":"////`, 1),
		"no time column": strings.Replace(string(raw), `"time":"time"`, `"time":"a"`, 1), "deep": lines[0] + strings.Repeat("[", 1<<20),
	} {
		if m, err := readManifest([]byte(text), rec); err == nil {
			t.Errorf("%s: %+v", name, m.files)
		}
	}
	// A manifest can claim a huge file: no space is reserved for it.
	n := openNode(t, t.TempDir(), Options{Registry: url})
	claim := hostile(t, n, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") })
	if err := n.fetch(t.Context(), content.Named{Hash: ok, Size: 1 << 50}, []peerOf{{"hostile", claim.URL}}); !errors.Is(err, ErrSyncFailed) {
		t.Error(err)
	}
}

type peerOf = peer

// TestResumes checks that an interrupted fetch continues at its end.
func TestResumes(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	good := openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, good, "x", 0, "a=1,2,3")
	path := filesOf(t, good)[0]
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := openNode(t, t.TempDir(), Options{Registry: url})
	half := len(whole) / 2
	cut := hostile(t, n, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
		_, _ = w.Write(whole[:half])
	})
	hash := filepath.Base(path)
	if err := n.fetch(t.Context(), content.Named{Hash: hash, Size: int64(len(whole))}, []peer{{"hostile", cut.URL}}); !errors.Is(err, ErrSyncFailed) {
		t.Fatal(err)
	}
	before := n.Stats().Bytes
	if err := n.fetch(t.Context(), content.Named{Hash: hash, Size: int64(len(whole))}, []peer{{"good", good.Address()}}); err != nil {
		t.Fatal(err)
	}
	if came := n.Stats().Bytes - before; came != int64(len(whole)-half) || before != int64(half) {
		t.Errorf("%d bytes came, and then %d, of %d", before, came, len(whole))
	}
	if err := n.fetch(t.Context(), content.Named{Hash: hash, Size: int64(len(whole))}, nil); err != nil {
		t.Errorf("what is here: %v", err)
	}
}
