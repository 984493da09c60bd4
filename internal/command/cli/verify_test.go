package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/stores"
)

// verify runs partd verify --json in this process.
func verify(t *testing.T, url string) (v verification, code int, stderr string) {
	t.Helper()
	code, out, stderr := runHere(t.Context(), nil, "verify", "--json", "--store", url)
	if out != "" {
		must.Do(t, json.Unmarshal([]byte(out), &v))
	}
	return v, code, stderr
}

// smallStores creates a store with short and large values. It returns the directory of the closed store,
// and a copy made before the store was closed, as a killed process leaves it.
func smallStores(t *testing.T) (closed, killed string) {
	t.Helper()
	closed, killed = filepath.Join(t.TempDir(), "closed"), filepath.Join(t.TempDir(), "killed")
	store := must.Get(stores.Open(t.Context(), "log:"+closed))(t)
	for _, value := range []string{"first", strings.Repeat("large ", 20_000), "last"} {
		must.Do(t, store.Append(t.Context(), partd.Entry{Key: "key", Value: []byte(value)}, partd.Entry{Key: value[:2], Value: []byte(value)}))
	}
	must.Do(t, os.CopyFS(killed, os.DirFS(closed)))
	must.Do(t, partd.Close(t.Context(), store))
	return closed, killed
}

// flipBit inverts a bit of the byte at offset in a file, and returns a function that restores it.
func flipBit(t *testing.T, path string, offset int) (undo func()) {
	t.Helper()
	data := must.Get(os.ReadFile(path))(t)
	flipped := bytes.Clone(data)
	flipped[offset] ^= 1 << (offset % 8)
	write := func(data []byte) { must.Do(t, os.WriteFile(path, data, 0o666)) }
	write(flipped)
	return func() { write(data) }
}

// TestVerifyNamesFile checks that partd verify names the file of a flipped bit, and an offset at or before the bit if
// the file is more than a list of others. A damaged last record of a write-ahead file is not damage, because a kill can
// cut it off.
func TestVerifyNamesFile(t *testing.T) {
	closed, killed := smallStores(t)
	intact := func(dir string) {
		t.Helper()
		if v, code, text := verify(t, "log:"+dir); code != cliutil.ExitOK || !v.OK || v.Keys != 3 || v.Bytes != 2*(120_000+9) {
			t.Errorf("verify of an intact store = %+v, exit code %d, %s", v, code, text)
		}
	}
	wal := filepath.Join(killed, "wal-0")
	data := must.Get(os.ReadFile(wal))(t)
	for path, offset := range map[string]int{
		filepath.Join(closed, "MANIFEST"): 11, filepath.Join(closed, "seg-00000002"): 80, filepath.Join(closed, "blob-00000001"): 99_730, wal: bytes.Index(data, []byte("first")),
	} {
		intact(filepath.Dir(path))
		undo := flipBit(t, path, offset)
		v, code, text := verify(t, "log:"+filepath.Dir(path))
		undo()
		if code != cliutil.ExitFailed || v.OK || len(v.Damage) == 0 || v.Damage[0].File != path || !strings.Contains(text, path) {
			t.Errorf("after a bit flip in byte %d of %s, verify = %+v, exit code %d, %s; want exit code 1 and damage in this file", offset, path, v, code, text)
		} else if at := v.Damage[0].Offset; filepath.Base(path) != "MANIFEST" && (at == nil || *at > int64(offset)) {
			t.Errorf("after a bit flip in byte %d of %s, verify reports the wrong offset: %s", offset, path, text)
		}
	}
	undo := flipBit(t, wal, bytes.LastIndex(data, []byte("last")))
	if v, code, text := verify(t, "log:"+killed); code != cliutil.ExitOK || v.Bytes != 2*(120_000+5) {
		t.Errorf("with a damaged last record, verify = %+v, exit code %d, %s; want no damage", v, code, text)
	}
	undo()
	intact(killed)
}

// TestVerifyFindsAllDamage checks that damage in one place does not hide damage in another.
func TestVerifyFindsAllDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	const sessions = 3
	for i := range sessions {
		store := must.Get(stores.Open(t.Context(), "log:"+dir))(t)
		must.Do(t, store.Append(t.Context(), partd.Entry{Key: "key", Value: fmt.Appendf(nil, "needle %d", i)}))
		must.Do(t, partd.Close(t.Context(), store))
	}
	if v, code, text := verify(t, "log:"+dir); code != cliutil.ExitOK || v.Segments != sessions || v.Records != sessions || v.Keys != 1 || v.Bytes != sessions*8 {
		t.Fatalf("verify of an intact store = %+v, exit code %d, %s", v, code, text)
	}
	path := filepath.Join(dir, "seg-00000001")
	data := must.Get(os.ReadFile(path))(t)
	for _, i := range []int{0, 2} {
		flipBit(t, path, bytes.Index(data, fmt.Appendf(nil, "needle %d", i)))
	}
	v, code, text := verify(t, "log:"+dir)
	offsets := map[int64]bool{}
	for _, d := range v.Damage {
		if d.File == path && d.Offset != nil {
			offsets[*d.Offset] = true
		}
	}
	if code != cliutil.ExitFailed || v.OK || v.Segments != sessions || v.Records != 1 || len(offsets) != 2 {
		t.Errorf("verify of a store with damage in two places = %+v, exit code %d, %s; want both offsets", v, code, text)
	}
}

// TestReadersOfLog checks that several processes can read a log store at the same time. While one process has the store
// open for writing, other processes cannot open it, and their error must name the first process.
func TestReadersOfLog(t *testing.T) {
	dir, _ := smallStores(t)
	reader := must.Get(stores.Open(t.Context(), "log:"+dir+"?readonly=true"))(t)
	reading := [][]string{{"get", "key"}, {"keys"}, {"stat"}, {"verify"}}
	for _, args := range reading {
		if out, err := program(t, append(args, "--store", "log:"+dir)...).CombinedOutput(); err != nil {
			t.Errorf("%s while another process reads: %v, output %s; want success", args[0], err, out)
		}
	}
	must.Do(t, partd.Close(t.Context(), reader))
	writer := must.Get(stores.Open(t.Context(), "log:"+dir))(t)
	want := fmt.Sprintf("partd: open %s: the store is in use by process %d on ", dir, os.Getpid())
	for _, args := range append(reading, []string{"delete", "key"}, []string{"drop"}, []string{"append", "key", os.Args[0], "--memory=1GiB"}) {
		out, err := program(t, append(args, "--store", "log:"+dir)...).CombinedOutput()
		if exitCode(t, err) != cliutil.ExitFailed || !strings.HasPrefix(string(out), want) {
			t.Errorf("%s while another process writes: %v, output %s; want exit code 1 and %q", args[0], err, out, want)
		}
	}
	must.Do(t, partd.Close(t.Context(), writer))
}

// TestReadAfterKill checks that commands read the data that a killed process left, even if it is too large for memory.
func TestReadAfterKill(t *testing.T) {
	dir, killed := filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), "killed")
	store := must.Get(stores.Open(t.Context(), "log:"+dir+"?memory=32MiB"))(t)
	defer func() { must.Do(t, partd.Close(t.Context(), store)) }()
	const pieces, size = 200, 50_000
	for range pieces {
		must.Do(t, store.Append(t.Context(), partd.Entry{Key: "key", Value: make([]byte, size)}))
	}
	must.Do(t, os.CopyFS(killed, os.DirFS(dir)))
	out, err := program(t, "get", "--store", "log:"+killed+"?memory=4MiB", "key").Output()
	if err != nil || len(out) != pieces*size {
		t.Errorf("get returns %d bytes, %v, want %d bytes", len(out), err, pieces*size)
	}
}

// TestStoreShare checks that a store and its layers together get three quarters of --memory, with an upper limit for
// log stores.
func TestStoreShare(t *testing.T) {
	for url, want := range map[string]int64{
		"log:x": 192 << 20, "buffer+log:x": 96 << 20, "file:x": 192 << 20, "buffer+file:x": 192 << 20,
	} {
		if got := storeShare(256<<20, url); got != want {
			t.Errorf("storeShare(256 MiB, %q) = %d, want %d", url, got, want)
		}
	}
	if got := storeShare(64<<30, "log:x"); got != 8<<30 {
		t.Errorf("storeShare(64 GiB) of a log store = %d, want 8 GiB", got)
	}
}

// TestVerifyThroughServer checks that if a server has a store open, partd verify checks it through the server. It
// reports the file and offset of damage, but not the directory of the store.
func TestVerifyThroughServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	store := must.Get(stores.Open(t.Context(), "zstd+log:"+dir))(t)
	must.Do(t, store.Append(t.Context(), partd.Entry{Key: "a", Value: randomBytes(100_000)}, partd.Entry{Key: "b", Value: randomBytes(3000)}))
	must.Do(t, partd.Flush(t.Context(), store))
	url, _ := serve(t, store)
	v, code, stderr := verify(t, url)
	if code != cliutil.ExitOK || !v.OK || v.Keys != 2 || v.Records != 2 || v.Segments != 1 || v.Store != url {
		t.Fatalf("verify of an intact store: exit code %d, %+v, %s", code, v, stderr)
	}
	if _, code, stderr := verify(t, "log:"+dir); code != cliutil.ExitFailed || !strings.Contains(stderr, "use the server's URL, such as tcp://") {
		t.Errorf("verify of the directory while the server runs: exit code %d, %s; want advice to use its URL", code, stderr)
	}
	files, err := filepath.Glob(dir + "/blob-*")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	data := must.Get(os.ReadFile(files[0]))(t)
	f := must.Get(os.OpenFile(files[0], os.O_RDWR, 0))(t)
	defer f.Close()
	must.Get(f.WriteAt([]byte{^data[50_000]}, 50_000))(t)
	v, code, stderr = verify(t, url)
	if code != cliutil.ExitFailed || v.OK || len(v.Damage) == 0 || v.Damage[0].File != filepath.Base(files[0]) || v.Damage[0].Offset == nil {
		t.Errorf("verify after damage to %s: exit code %d, %+v, %s; want damage to this file with its offset", files[0], code, v, stderr)
	}
	if strings.Contains(stderr, dir) {
		t.Errorf("the message discloses the directory of the store: %s", stderr)
	}
	plain, _ := serve(t, partd.NewDict())
	if _, code, stderr := verify(t, plain); code != cliutil.ExitFailed || !strings.Contains(stderr, "keeps no checksums") {
		t.Errorf("verify of a store without checksums: exit code %d, %s", code, stderr)
	}
}

// randomBytes returns bytes that do not compress.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}
