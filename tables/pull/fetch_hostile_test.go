package pull

import (
	"bytes"
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

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/files/content"
)

// TestServesOnlyFiles checks that no path makes the server send anything except files and
// heads, and that it serves nothing without the token.
func TestServesOnlyFiles(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	n := openNode(t, t.TempDir(), Options{Registry: url, Token: "right"})
	mustSave(t, n, "x", 0, "a=1,2")
	must.Do(t, os.WriteFile(filepath.Join(n.disk.dir, "secret"), []byte("secret"), 0o600))
	hash := filepath.Base(parquetFiles(t, n)[0])
	ask := func(path, token string) (int, string) {
		r := must.Get(http.NewRequestWithContext(t.Context(), http.MethodGet, n.Address(), nil))(t)
		r.URL.Opaque = path // an opaque path is sent unchanged
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		a := must.Get(http.DefaultTransport.RoundTrip(r))(t)
		defer a.Body.Close()
		b, _ := io.ReadAll(a.Body)
		return a.StatusCode, string(b)
	}
	for _, token := range []string{"", "wrong", "righ", "right "} {
		for _, path := range []string{filePath + hash, headPath + keyOf("x"), verifyPath} {
			if code, _ := ask(path, token); token != "right " && code != http.StatusUnauthorized {
				t.Errorf("GET %s with token %q = %d, want %d", path, token, code, http.StatusUnauthorized)
			}
		}
	}
	if code, b := ask(filePath+hash, "right"); code != http.StatusOK || !strings.HasPrefix(b, "PAR1") {
		t.Errorf("GET of a file with the right token = %d, want 200 and a Parquet file", code)
	}
	for _, path := range []string{
		"../id", "..%2fid", "%2e%2e/id", "..%2f..%2fsecret", "/etc/passwd", "%2fetc%2fpasswd", strings.ToUpper(hash), hash + "/", hash[:63], hash + "0",
		"", ".", "%00", strings.Repeat("a", 64) + "%00", "../heads/" + keyOf("x"), "..%5cid",
	} {
		if code, b := ask(filePath+path, "right"); code == http.StatusOK || strings.Contains(b, n.disk.id) || strings.Contains(b, "secret") {
			t.Errorf("GET of file %q = %d %q, want an error", path, code, b)
		}
	}
	// A Load with the wrong token must return the server's error.
	unauthorized := openNode(t, t.TempDir(), Options{Registry: url, Token: "wrong"})
	var failed *SyncError
	if _, err := unauthorized.Load(t.Context(), "x", noBound, noBound); !errors.As(err, &failed) || len(failed.Causes) != 1 || !strings.Contains(err.Error(), "401") {
		t.Errorf("Load with the wrong token: got error %v, want one SyncError with status 401", err)
	}
	if _, err := Open(t.Context(), t.TempDir(), &Options{Registry: url, Listen: "0.0.0.0:0", Advertise: "x:1"}); err == nil || !strings.Contains(err.Error(), "Token") {
		t.Errorf("Open on 0.0.0.0 without a token: got error %v, want an error about Token", err)
	}
}

// TestHostilePeers checks that whatever a peer sends, a Load returns the saved rows or a
// clear error, and does not reserve the memory or disk space that the peer claims to need.
func TestHostilePeers(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	good := openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, good, "x", 0, "a=1,2,3")
	want := load(t, good, "x", noBound, noBound)
	rec := good.reg.table(keyOf("x")).record
	raw := must.Get(readAll(good.disk.Open(rec.manifestFile())))(t)
	endless := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"endless":               endless,
		"wrong":                 func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("x", int(rec.Size))) },
		"short":                 func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") },
		"claims too many bytes": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "999999999999999") },
		"claims too few bytes": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			fmt.Fprint(w, "xxx")
		},
		"redirects": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		},
		"sends a range": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-9/10")
			w.WriteHeader(http.StatusPartialContent)
		},
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"newer head": func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.URL.Path, headPath) {
				http.NotFound(w, r)
				return
			}
			_ = json.NewEncoder(w).Encode(record{Name: "x", Version: 99, Manifest: rec.Manifest, Size: 1 << 60})
		},
		"head of another table": func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(record{Name: "../../x", Version: 99, Manifest: "../../id", Size: 10})
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := openNode(t, t.TempDir(), Options{Registry: url, Lease: time.Hour})
			peer := addHostilePeer(t, n, h)
			peers := []peerOf{{"hostile", peer.URL}}
			must.Fail(t, n.fetch(t.Context(), rec.manifestFile(), peers), ErrSyncFailed, "fetch from only the hostile peer")
			entries, err := os.ReadDir(filepath.Join(n.disk.dir, "files"))
			if err != nil || len(entries) != 0 {
				t.Errorf("files after a failed fetch: %v, %v, want none", entries, err)
			}
			for range 3 { // the order of the peers is random
				wantRows(t, n, "x", want)
				must.Do(t, os.RemoveAll(filepath.Join(n.disk.dir, "files")))
				must.Do(t, os.Mkdir(filepath.Join(n.disk.dir, "files"), 0o777))
			}
		})
	}

	// Invalid manifests.
	lines := strings.SplitAfter(string(raw), "\n")
	file := func(change string) string { return lines[0] + change + "\n" }
	fileEntry := func(size, rows, lo, hi int64, hash string) string {
		b, _ := json.Marshal(dataFile{content.HashNamed{Hash: hash, Size: size}, rows, lo, hi})
		return string(b)
	}
	ok := strings.Repeat("a", 64)
	for name, text := range map[string]string{
		"empty": "", "not JSON": "x\n", "another name": strings.Replace(string(raw), `"name":"x"`, `"name":"y"`, 1),
		"10^12 files claimed": file(`{"files":1000000000000}`), "many empty lines": strings.Repeat("{}\n", 1<<20),
		"traversal": file(fileEntry(1, 1, 0, 0, "../../../etc/passwd")), "negative size": file(fileEntry(-1, 1, 0, 0, ok)), "no rows": file(fileEntry(1, 0, 0, 0, ok)),
		"max before min": file(fileEntry(1, 1, 2, 1, ok)), "overlapping": file(fileEntry(1, 1, 0, 5, ok) + "\n" + fileEntry(1, 1, 5, 6, ok)),
		"a long line": lines[0] + strings.Repeat(" ", maxLine+1), "a damaged schema": strings.Replace(string(raw), `"schema":"`, `"schema":"////`, 1),
		"no time column": strings.Replace(string(raw), `"time":"time"`, `"time":"a"`, 1), "deep": lines[0] + strings.Repeat("[", 1<<20),
	} {
		if m, err := readManifest([]byte(text), rec); err == nil {
			t.Errorf("readManifest of a manifest that is invalid (%s) = %+v, want an error", name, m.files)
		}
	}
	// If a manifest claims a huge file, fetch must not reserve space for it.
	n := openNode(t, t.TempDir(), Options{Registry: url})
	claim := addHostilePeer(t, n, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") })
	if err := n.fetch(t.Context(), content.HashNamed{Hash: ok, Size: 1 << 50}, []peerOf{{"hostile", claim.URL}}); !errors.Is(err, ErrSyncFailed) {
		t.Errorf("fetch of a file of 1<<50 bytes: got error %v, want ErrSyncFailed", err)
	}
}

type peerOf = peer // for functions that have a variable named peer

func TestFetchResumes(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	good := openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, good, "x", 0, "a=1,2,3")
	path := parquetFiles(t, good)[0]
	data := must.Get(os.ReadFile(path))(t)
	n := openNode(t, t.TempDir(), Options{Registry: url})
	half := len(data) / 2
	interrupting := addHostilePeer(t, n, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:half])
	})
	hash := filepath.Base(path)
	if err := n.fetch(t.Context(), content.HashNamed{Hash: hash, Size: int64(len(data))}, []peer{{"hostile", interrupting.URL}}); !errors.Is(err, ErrSyncFailed) {
		t.Fatal(err)
	}
	before := n.Stats().Bytes
	must.Do(t, n.fetch(t.Context(), content.HashNamed{Hash: hash, Size: int64(len(data))}, []peer{{"good", good.Address()}}))
	if received := n.Stats().Bytes - before; received != int64(len(data)-half) || before != int64(half) {
		t.Errorf("received %d bytes and then %d bytes of a file of %d bytes, want each byte once", before, received, len(data))
	}
	if err := n.fetch(t.Context(), content.HashNamed{Hash: hash, Size: int64(len(data))}, nil); err != nil {
		t.Errorf("fetch of a file that the node already has: %v", err)
	}
}

// TestInvalidManifests checks that a manifest is refused if two of its files share a time, because a Load would return
// the rows of that time twice.
func TestInvalidManifests(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	n := openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, n, "x", 0, "a=1,2,3")
	rec := n.reg.table(keyOf("x")).record
	m := must.Get(n.manifest(t.Context(), rec))(t)
	for step, valid := range map[int64]bool{0: false, 1: true} {
		second := m.files[0]
		second.Min, second.Max = m.files[0].Max+step, m.files[0].Max+5
		forged := *m
		forged.files = []dataFile{m.files[0], second}
		var b bytes.Buffer
		must.Do(t, forged.encode(&b))
		if _, err := readManifest(b.Bytes(), rec); (err == nil) != valid {
			t.Errorf("the second file begins %d after the first: error %v, want valid: %v", step, err, valid)
		}
	}
	var b bytes.Buffer
	m.Format = 2
	must.Do(t, m.encode(&b))
	if _, err := readManifest(b.Bytes(), rec); err == nil || !strings.Contains(err.Error(), "format 2, which this program does not know: upgrade this node") {
		t.Errorf("a manifest in format 2: error %v, want advice", err)
	}
}

// TestNewerNode sends a request in version 2 of the protocol to a node that knows version 1 only.
func TestNewerNode(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	n := openNode(t, t.TempDir(), Options{Registry: url})
	err := n.client.askJSON(t.Context(), http.MethodGet, n.Address()+strings.Replace(headPath, "/v1/", "/v2/", 1)+keyOf("x"), maxRecord, new(record))
	if errors.Is(err, errAbsent) || err == nil || !strings.Contains(err.Error(), "unknown request: this node may need an upgrade") {
		t.Errorf("a request in version 2: error %v, want advice", err)
	}
}
