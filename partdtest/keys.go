package partdtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-partd/partd"
)

func keyChecks() []check {
	distinct := func(name string, keys ...string) check {
		return check{name: name, run: func(e *env) { e.checkDistinct(keys) }}
	}
	long := repeat("long key ", partd.MaxKeyLen)
	return []check{
		distinct("empty-key", "", "x"),
		distinct("longest-key", long, long[:len(long)-1]+"!", "!"+long[1:], long[:len(long)-1]),
		{name: "key-too-long", run: keyTooLong},
		distinct("nul", "a\x00b", "a", "a\x00", "\x00", "\x00a", "a\x00c", "ab"),
		distinct("slash", "a/b", "a", "b", "ab", "a//b", "/", "//", "a/b/", "a/b/c", "a_b", "a%2Fb"),
		distinct("dot-dot", "..", "../", "/..", "../..", "a/../b", "b"),
		distinct("dot", ".", "./", "./.", "a/./b", "a/b", "..."),
		{name: "path-traversal", run: pathTraversal},
		distinct("newline", "a\nb", "a", "b", "\n", "a\n", "a\r\n", "a\r", "a b", "a\tb"),
		distinct("invalid-utf8", "\xff", "\xfe", "a\x80", "a\xc3", "a\ufffd", "\ufffd", "\xed\xa0\x80", "a"),
		distinct("composed-and-decomposed", "caf\u00e9", "cafe\u0301", "cafe", "\u212b", "\u00c5", "A\u030a"),
		distinct("letter-case", "Key", "key", "KEY", "kEy", "\u00c9", "\u00e9", "stra\u00dfe", "strasse", "I", "\u0131", "\u0130", "i"),
		{name: "internal-names", run: internalNames},
		distinct("escaped-and-temporary-names", "a", "%61", "%", "%%", "%25", "%2", "a/b", "a%2Fb", "a%2fb", "a%252Fb",
			"a.tmp", ".a.tmp", "a~", "a.new", "a.1", "tmp", "a=2Fb", "a\\b", "a+b", "a b", "a!b", "a%21b"),
		distinct("longer-than-a-file-name", longKeys()...),
		distinct("sanitised", "a!b", "ab", "a\"b", "a|b", "a'b", "a,b", "a:b", "a;b", "a?b", "a*b", "a_b", "a-b", " ab", "ab ", "ab.", "AB"),
		distinct("key-and-directory", "a", "a/b", "a/b/c", "a/", "b", "b/.lock", "a/b.", "c/d", "c"),
		{name: "key-twice-in-a-batch", run: keyTwice},
	}
}

// longKeys returns similar keys with lengths around the limits of file names.
func longKeys() []string {
	var keys []string
	for _, n := range []int{100, 127, 128, 129, 200, 240, 250, 254, 255, 256, 257, 300, 1000, 4095, 4096, 4097, 20000} {
		keys = append(keys, repeat("k", n), repeat("k", n-1)+"!")
	}
	return append(keys, repeat("\u00e9", 256), repeat("/", 300), repeat("%", 300), "!"+repeat("k", 299), repeat("K", 300))
}

// checkDistinct changes the values of keys in several ways, and checks that the changes do not affect
// other keys.
func (e *env) checkDistinct(keys []string) {
	e.Helper()
	keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	want := model{}
	var batch []partd.Entry
	for i, k := range keys {
		piece := fmt.Sprintf("first of %d;", i)
		e.append(entry(k, piece))
		want[k] += piece
	}
	e.want("after an append to each key", want)
	for i, k := range slices.Backward(keys) {
		piece := fmt.Sprintf("second of %d;", i)
		batch = append(batch, entry(k, piece))
		want[k] += piece
	}
	e.append(batch...)
	e.want("after one append to all keys", want)
	if e.reopen() {
		e.want("after reopening", want)
	}
	for i, k := range keys {
		r, err := openAll(e.ctx, e.store, k, 100)
		e.must("Open", err)
		e.must("Open", differenceError("Open of key "+partd.QuoteKey(k), r, want[k]))
		if e.suite.can[CanSet] && i%3 == 0 {
			want[k] = fmt.Sprintf("set %d;", i)
			e.set(k, want[k])
			e.want("after Set of key "+partd.QuoteKey(k), want)
		}
		if e.suite.can[CanDelete] && i%3 != 2 {
			delete(want, k)
			e.must("Delete", partd.Delete(e.ctx, e.store, k))
			e.want("after Delete of key "+partd.QuoteKey(k), want)
		}
	}
	for i, k := range keys {
		piece := fmt.Sprintf("third of %d;", i)
		e.append(entry(k, piece))
		want[k] += piece
	}
	e.want("after Set and Delete of some keys, and another append to each key", want)
	e.must("Drop", e.store.Drop(e.ctx))
	e.want("after Drop", nil)
}

func keyTooLong(e *env) {
	e.append(entry("a", "1"))
	long := repeat("k", partd.MaxKeyLen+1)
	for _, op := range []struct {
		name string
		try  func() error
	}{
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
			if err == nil {
				_ = r.Close()
			}
			return err
		}},
	} {
		err := op.try()
		if !errors.Is(err, partd.ErrTooLarge) && !errors.Is(err, errors.ErrUnsupported) {
			e.Errorf("%s with a key of %d bytes must fail with ErrTooLarge: %v", op.name, len(long), err)
		}
		e.want(op.name+" with a key that is too long must change nothing", model{"a": "1"})
	}
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
		e.must("Drop", e.store.Drop(e.ctx))
		e.checkDistinct(keys)
	}
}

func keyTwice(e *env) {
	e.append(entry("a", "1"), entry("b", "2"), entry("a", "3"), entry("a", "4"), entry("b", "5"))
	e.want("the values of a key in a batch come in the batch's order", model{"a": "134", "b": "25"})
	e.append(entry("a", "6"), entry("a", ""), entry("a", "7"))
	e.want("an empty value between two others adds nothing", model{"a": "13467", "b": "25"})
}
