package partdtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

// longKeys returns similar keys with lengths around the limits of file names.
func longKeys() []string {
	var keys []string
	for _, n := range []int{100, 127, 128, 129, 200, 240, 250, 254, 255, 256, 257, 300, 1000, 4095, 4096, 4097, 20000} {
		keys = append(keys, repeat("k", n), repeat("k", n-1)+"!")
	}
	return append(keys, repeat("\u00e9", 256), repeat("/", 300), repeat("%", 300), "!"+repeat("k", 299), repeat("K", 300))
}

// checkDistinct changes the values of keys in several ways and checks that the changes do not affect
// other keys.
func (e *env) checkDistinct(keys []string) {
	e.Helper()
	keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	for i, k := range keys {
		e.append(entry(k, fmt.Sprintf("first of %d;", i)))
	}
	e.check("after an append to each key")
	var batch []partd.Entry
	for i, k := range slices.Backward(keys) {
		batch = append(batch, entry(k, fmt.Sprintf("second of %d;", i)))
	}
	e.append(batch...)
	e.check("after one append to all keys")
	e.checkReopened()
	for i, k := range keys {
		e.checkOpen(k, 100)
		if e.suite.can[CanSet] && i%3 == 0 {
			e.set(k, fmt.Sprintf("set %d;", i))
			e.check("after Set of key " + storekit.QuoteKey(k))
		}
		if e.suite.can[CanDelete] && i%3 != 2 {
			e.delete(k)
			e.check("after Delete of key " + storekit.QuoteKey(k))
		}
	}
	for i, k := range keys {
		e.append(entry(k, fmt.Sprintf("third of %d;", i)))
	}
	e.check("after Set and Delete of some keys, and another append to each key")
	e.drop()
	e.check("after Drop")
}

func keyTooLong(e *env) {
	e.append(entry("a", "1"))
	long := repeat("k", partd.MaxKeyLen+1)
	e.expectFailures(fmt.Sprintf("with a key of %d bytes must fail with ErrTooLarge", len(long)), isTooLarge, []operation{
		{"Append", func() error {
			return e.store.Append(e.ctx, entry("a", "2"), entry(long, "3"), entry("b", "4"))
		}},
		{"Get", func() error { _, err := e.store.Get(e.ctx, "a", long); return err }},
		{"Set", func() error { return partd.Set(e.ctx, e.store, long, []byte("5")) }},
		{"SetOnce", func() error { return partd.SetOnce(e.ctx, e.store, long, []byte("6")) }},
		{"Delete", func() error { return partd.Delete(e.ctx, e.store, "a", long) }},
		{"Pop", func() error { _, err := partd.Pop(e.ctx, e.store, "a", long); return err }},
		{"Open", func() error {
			r, err := partd.Open(e.ctx, e.store, long)
			if err != nil {
				return err
			}
			_ = r.Close()
			return nil
		}},
	})
}

// pathTraversal uses keys that are paths outside the store's directory.
func pathTraversal(e *env) {
	keys := []string{
		"../x", "/etc/x", "../../x", "/x", "x", "a/../../x", "..\\x", "C:\\x", "~/x", "file:///etc/x", "/dev/null", "/proc/self/x",
		"%2e%2e/x", "..%2Fx", "$HOME/x", "`x`", "-rf", "--", "*",
	}
	if e.suite.opts.Dir == nil {
		e.checkDistinct(keys)
		return
	}
	dir := e.suite.opts.Dir(e.store)
	outerDirs := []string{filepath.Dir(dir), filepath.Dir(filepath.Dir(dir))}
	keys = append(keys, filepath.Join(dir, "x"), "../"+filepath.Base(dir)+"/x")
	namesBefore := map[string][]string{}
	for _, d := range outerDirs {
		namesBefore[d] = namesIn(e, d)
	}
	e.checkDistinct(keys)
	for _, d := range outerDirs {
		for _, name := range namesIn(e, d) {
			if !slices.Contains(namesBefore[d], name) && strings.HasSuffix(name, "x") {
				e.Errorf("a key created %s, outside the store's directory %s", filepath.Join(d, name), dir)
			}
		}
	}
}

func namesIn(e *env, dir string) []string {
	entries, err := os.ReadDir(dir)
	e.must("ReadDir", err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// internalNames uses the names of stores' internal files as keys. If Options.Dir is set, it also
// uses the names of the files in the store's directory. It does so twice, because the keys of the
// first round create more files.
func internalNames(e *env) {
	keys := append([]string{
		".lock", ".undo", "lock", "LOCK", "undo", "wal", "log", "journal", "index", "manifest", "MANIFEST", "CURRENT", "data", "meta",
		"tmp", ".tmp", ".partd", "partd", "segment", "keys", ".dtype", "a.dtype", "a", "ledger", "session", "a/b", "a!b", repeat("k", 300),
	}, e.suite.opts.InternalNames...)
	e.checkDistinct(keys)
	if e.suite.opts.Dir == nil {
		return
	}
	for range 2 {
		for _, k := range keys {
			e.append(entry(k, "x"))
		}
		err := filepath.WalkDir(e.suite.opts.Dir(e.store), func(path string, _ os.DirEntry, err error) error {
			if name := filepath.Base(path); err == nil && len(keys) < 300 && !slices.Contains(keys, name) {
				keys = append(keys, name, "."+name, name+".tmp")
			}
			return nil // ignore errors, because files can disappear during the walk
		})
		e.must("WalkDir", err)
		e.drop()
		e.checkDistinct(keys)
	}
}

func keyTwice(e *env) {
	e.append(entry("a", "1"), entry("b", "2"), entry("a", "3"), entry("a", "4"), entry("b", "5"))
	e.check("the values of a key in a batch come in the batch's order")
	e.append(entry("a", "6"), entry("a", ""), entry("a", "7"))
	e.check("an empty value between two others adds nothing")
}
