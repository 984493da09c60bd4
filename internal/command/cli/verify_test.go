package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/stores"
)

// verify runs partd verify --json in this process.
func verify(t *testing.T, dir string) (v verification, code int, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), []string{"verify", "--json", "--store", "log:" + dir}, &app{out: &out, err: &errs, open: openStore})
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &v); err != nil {
			t.Fatalf("parsing the output of verify: %v: %s", err, out.Bytes())
		}
	}
	return v, code, errs.String()
}

// smallStores creates a store with short and large values. It returns the directory of the closed store,
// and a copy made before the store was closed, as a killed process leaves it.
func smallStores(t *testing.T) (closed, killed string) {
	t.Helper()
	closed, killed = filepath.Join(t.TempDir(), "closed"), filepath.Join(t.TempDir(), "killed")
	store, err := stores.Open(t.Context(), "log:"+closed)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"first", strings.Repeat("large ", 20_000), "last"} {
		if err := store.Append(t.Context(), partd.Entry{Key: "key", Value: []byte(value)}, partd.Entry{Key: value[:2], Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(killed, os.DirFS(closed)); err != nil {
		t.Fatal(err)
	}
	if err := partd.Close(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	return closed, killed
}

// flipBit inverts a bit of the byte at offset in a file, and returns a function that restores it.
func flipBit(t *testing.T, path string, offset int) (undo func()) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(data)
	flipped[offset] ^= 1 << (offset % 8)
	write := func(data []byte) {
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write(flipped)
	return func() { write(data) }
}

// TestVerifyFindsFlippedBits checks that partd verify detects a flipped bit anywhere in the files that a closed store
// needs, and names the file.
func TestVerifyFindsFlippedBits(t *testing.T) {
	dir, _ := smallStores(t)
	if v, code, text := verify(t, dir); code != cliutil.ExitOK || !v.OK || v.Keys != 3 || v.Bytes != 2*(120_000+9) {
		t.Fatalf("verify of an intact store = %+v, exit code %d, %s", v, code, text)
	}
	for pattern, step := range map[string]int{"MANIFEST": 11, "seg-*": 131, "blob-*": 9973} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(paths) != 1 {
			t.Fatalf("the pattern %s matches %v, error %v; want one file", pattern, paths, err)
		}
		info, err := os.Stat(paths[0])
		if err != nil {
			t.Fatal(err)
		}
		for offset := 0; offset < int(info.Size()); offset += step {
			undo := flipBit(t, paths[0], offset)
			v, code, text := verify(t, dir)
			undo()
			if code != cliutil.ExitFailed || v.OK || len(v.Damage) == 0 || v.Damage[0].File != paths[0] || !strings.Contains(text, paths[0]) {
				t.Errorf("after a bit flip in byte %d of %s, verify = %+v, exit code %d, %s; want exit code 1 and damage in this file", offset, pattern, v, code, text)
			}
			if pattern != "MANIFEST" && offset > 32 && (v.Damage[0].Offset == nil || *v.Damage[0].Offset > int64(offset)) {
				t.Errorf("after a bit flip in byte %d of %s, verify reports the wrong offset: %s", offset, pattern, text)
			}
		}
	}
	if v, code, text := verify(t, dir); code != cliutil.ExitOK {
		t.Errorf("after all bits were restored, verify = %+v, %s", v, text)
	}
}

// TestVerifyFindsAllDamage checks that damage in one place does not hide damage in another.
func TestVerifyFindsAllDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	const sessions = 3
	for i := range sessions {
		store, err := stores.Open(t.Context(), "log:"+dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Append(t.Context(), partd.Entry{Key: "key", Value: fmt.Appendf(nil, "needle %d", i)}); err != nil {
			t.Fatal(err)
		}
		if err := partd.Close(t.Context(), store); err != nil {
			t.Fatal(err)
		}
	}
	if v, code, text := verify(t, dir); code != cliutil.ExitOK || v.Segments != sessions || v.Records != sessions || v.Keys != 1 || v.Bytes != sessions*8 {
		t.Fatalf("verify of an intact store = %+v, exit code %d, %s", v, code, text)
	}
	path := filepath.Join(dir, "seg-00000001")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 2} {
		flipBit(t, path, bytes.Index(data, fmt.Appendf(nil, "needle %d", i)))
	}
	v, code, text := verify(t, dir)
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

// TestVerifyWriteAhead checks that verify reports a damaged record in a write-ahead file if other records follow it.
// It must ignore a damaged last record, because a kill can cut off the last record.
func TestVerifyWriteAhead(t *testing.T) {
	_, dir := smallStores(t)
	v, code, text := verify(t, dir)
	if code != cliutil.ExitOK || v.Keys != 3 {
		t.Fatalf("verify of an intact store = %+v, exit code %d, %s", v, code, text)
	}
	wal := filepath.Join(dir, "wal-0")
	data, err := os.ReadFile(wal)
	if err != nil {
		t.Fatal(err)
	}
	first, last := bytes.Index(data, []byte("first")), bytes.LastIndex(data, []byte("last"))
	if first < 0 || last < first {
		t.Fatalf("the write-ahead file has the records at %d and %d, want valid offsets in this order", first, last)
	}
	undo := flipBit(t, wal, first)
	v, code, text = verify(t, dir)
	if code != cliutil.ExitFailed || len(v.Damage) != 1 || v.Damage[0].File != wal || v.Damage[0].Offset == nil || *v.Damage[0].Offset != 64 {
		t.Errorf("with a damaged first record, verify = %+v, exit code %d, %s; want damage at offset 64", v, code, text)
	}
	undo()
	undo = flipBit(t, wal, last)
	if v, code, text = verify(t, dir); code != cliutil.ExitOK || v.Bytes != 2*(120_000+5) {
		t.Errorf("with a damaged last record, verify = %+v, exit code %d, %s; want no damage", v, code, text)
	}
	undo()
	if v, code, text = verify(t, dir); code != cliutil.ExitOK || v.Bytes != 2*(120_000+9) {
		t.Errorf("verify changed the store: it now returns %+v, exit code %d, %s", v, code, text)
	}
}

// TestReadersOfLog checks that several processes can read a log store at the same time. While one process has the store
// open for writing, other processes cannot open it, and their error must name the first process.
func TestReadersOfLog(t *testing.T) {
	dir, _ := smallStores(t)
	reader, err := stores.Open(t.Context(), "log:"+dir+"?readonly=true")
	if err != nil {
		t.Fatal(err)
	}
	reading := [][]string{{"get", "key"}, {"keys"}, {"stat"}, {"verify"}}
	for _, args := range reading {
		if out, err := program(t, append(args, "--store", "log:"+dir)...).CombinedOutput(); err != nil {
			t.Errorf("%s while another process reads: %v, output %s; want success", args[0], err, out)
		}
	}
	if err := partd.Close(t.Context(), reader); err != nil {
		t.Fatal(err)
	}
	writer, err := stores.Open(t.Context(), "log:"+dir)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("partd: open %s: the store is in use by process %d on ", dir, os.Getpid())
	for _, args := range append(reading, []string{"delete", "key"}, []string{"drop"}, []string{"append", "key", os.Args[0], "--memory=1GiB"}) {
		out, err := program(t, append(args, "--store", "log:"+dir)...).CombinedOutput()
		if exitCode(t, err) != cliutil.ExitFailed || !strings.HasPrefix(string(out), want) {
			t.Errorf("%s while another process writes: %v, output %s; want exit code 1 and %q", args[0], err, out, want)
		}
	}
	if err := partd.Close(t.Context(), writer); err != nil {
		t.Fatal(err)
	}
}

// TestReadAfterKill checks that commands read the data that a killed process left, even if it is too large for memory.
func TestReadAfterKill(t *testing.T) {
	dir, killed := filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), "killed")
	store, err := stores.Open(t.Context(), "log:"+dir+"?memory=32MiB")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := partd.Close(t.Context(), store); err != nil {
			t.Error(err)
		}
	}()
	value := bytes.Repeat([]byte("v"), 50_000)
	const pieces = 200
	for range pieces {
		if err := store.Append(t.Context(), partd.Entry{Key: "key", Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for _, memory := range []string{"", "?memory=4MiB"} {
		out, err := program(t, "get", "--store", "log:"+killed+memory, "key").Output()
		if err != nil || len(out) != pieces*len(value) {
			t.Errorf("get with options %q returns %d bytes, %v, want %d bytes", memory, len(out), err, pieces*len(value))
		}
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
