package bucketfs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/objstore"
)

const (
	fileSize = 10_000
	childEnv = "PARTD_FILECACHE_DIR"
)

func contentOf(key string) []byte { return []byte(strings.Repeat(key+" ", fileSize)[:fileSize]) }

func get(c *Cache, key string, fetched *atomic.Int64) (string, error) {
	var text []byte
	err := c.WithCopy(key, func(path string) error {
		b, err := os.ReadFile(path)
		if err == nil && string(b) != string(contentOf(key)) {
			err = errors.New("damaged")
		}
		return err
	}, func(f *os.File) error {
		fetched.Add(1)
		return must.Err(f.Write(contentOf(key)))
	}, func(path string) (err error) {
		text, err = os.ReadFile(path)
		return err
	})
	return string(text), err
}

func size(t *testing.T, dir string) (n int64) {
	t.Helper()
	must.Do(t, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		n += info.Size()
		return err
	}))
	return n
}

func mustOpen(t *testing.T, dir string, limit int64) *Cache {
	t.Helper()
	return must.Get(OpenCache(dir, limit))(t)
}

func TestMain(m *testing.M) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	var fetched atomic.Int64
	c, err := OpenCache(dir, 20*fileSize)
	for n := 0; err == nil; n++ {
		key := fmt.Sprint("key ", rand.IntN(50))
		if n%5 == 0 {
			_, _, err = c.Pin(key, func(string) error { return nil }, func(f *os.File) error { _, err := f.Write(contentOf(key)); return err })
		} else {
			var text string
			if text, err = get(c, key, &fetched); err == nil && text != string(contentOf(key)) {
				err = fmt.Errorf("%s has the wrong content", key)
			}
		}
		if n == 300 {
			fmt.Println("working")
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// TestCache checks that the least recently used copies are evicted at the limit, and that damaged copies are
// fetched again.
func TestCache(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir, 20*fileSize)
	var fetched atomic.Int64
	for n := range 100 {
		for _, key := range []string{fmt.Sprint(n), fmt.Sprint(n)} {
			if text, err := get(c, key, &fetched); err != nil || text != string(contentOf(key)) {
				t.Fatal(err)
			}
		}
	}
	if n := size(t, filepath.Join(dir, "files")); n > 20*fileSize || n < 15*fileSize {
		t.Errorf("the cache has %d bytes, want %d to %d", n, 15*fileSize, 20*fileSize)
	}
	if fetched.Load() != 100 {
		t.Errorf("fetched %d files, want 100", fetched.Load())
	}
	must.Do(t, os.WriteFile(c.path("99"), make([]byte, fileSize), 0o600))
	reopened := mustOpen(t, dir, 20*fileSize)
	if text, err := get(reopened, "99", &fetched); err != nil || text != string(contentOf("99")) || fetched.Load() != 101 {
		t.Errorf("damaged copy: got error %v after %d fetches, want a fetched copy", err, fetched.Load())
	}
	must.Do(t, errors.Join(reopened.Close(), c.Close()))
	leftovers, err := os.ReadDir(filepath.Join(dir, "processes"))
	if err != nil || len(leftovers) > 0 {
		t.Errorf("processes/ still contains %v, %v", leftovers, err)
	}
}

// TestPins checks that links to pinned copies survive eviction, and are removed after their release.
func TestPins(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir, 5*fileSize)
	var fetched atomic.Int64
	fetch := func(f *os.File) error { _, err := f.Write(contentOf("pinned")); return err }
	accept := func(string) error { return nil }
	path, release, err := c.Pin("pinned", accept, fetch)
	must.Do(t, err)
	same, releaseSame, err := c.Pin("pinned", accept, fetch)
	if err != nil || same != path {
		t.Fatalf("second Pin = %s, %v, want %s", same, err, path)
	}
	for n := range 50 {
		must.Get(get(c, fmt.Sprint(n), &fetched))(t)
	}
	if _, err := os.Stat(c.path("pinned")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the cache still contains the pinned copy, which should have been evicted")
	}
	release()
	release()
	if b, err := os.ReadFile(path); err != nil || string(b) != string(contentOf("pinned")) {
		t.Error(err)
	}
	releaseSame()
	must.Fail(t, must.Err(os.Stat(path)), fs.ErrNotExist, "the link still exists after its release")
	must.Do(t, c.Close())
}

// TestKilledProcesses checks that opening a shared directory removes everything that killed processes left in it.
func TestKilledProcesses(t *testing.T) {
	dir := t.TempDir()
	var g sync.WaitGroup
	for range 4 {
		g.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childEnv+"="+dir)
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if !must.Check(t, err) {
				return
			}
			buf := make([]byte, 100)
			n, _ := out.Read(buf)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if string(buf[:n]) != "working\n" {
				t.Errorf("the process printed %q, want \"working\"", buf[:n])
			}
		})
	}
	g.Wait()
	c := mustOpen(t, dir, 20*fileSize)
	leftovers, err := filepath.Glob(filepath.Join(dir, "processes", "*"))
	if err != nil || len(leftovers) != 2 {
		t.Errorf("processes/ contains %q, %v, want only this process's directory and its lock", leftovers, err)
	}
	if n := size(t, filepath.Join(dir, "files")); n > 20*fileSize {
		t.Errorf("the cache has %d bytes, want at most the size of 20 files", n)
	}
	must.Do(t, c.Close())
}

// TestReadDuringClose checks that a file can be opened at any time while another goroutine closes it. Close moves the
// local file into the cache.
func TestReadDuringClose(t *testing.T) {
	c := must.Get(OpenCache(t.TempDir(), 1<<20))(t)
	f := New(new(objstore.Memory), c, "bucket", "key", time.Second)
	defer f.Close()
	f.Expect(func(string) (int64, xxh3.Uint128, bool, error) { return 0, xxh3.Uint128{}, false, nil })
	for i := range 200 {
		name := fmt.Sprint("/data/", i)
		w, err := f.OpenFile(name, os.O_RDWR|os.O_CREATE, 0)
		must.Do(t, err)
		must.Get(w.Write([]byte(name)))(t)
		closed := make(chan error, 1)
		go func() { closed <- w.Close() }()
		for isClosed := false; !isClosed; {
			select {
			case err = <-closed:
				isClosed = true
			default:
				_, err = f.Info(name)
			}
			if err != nil {
				t.Fatalf("file %d: %v", i, err)
			}
		}
	}
}
