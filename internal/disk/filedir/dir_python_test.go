package filedir_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/storetest"
)

// filePython is Debian's Python, which uses the packages python3-partd and python3-locket.
const filePython = "/usr/bin/python3"

// fileInterpreter starts a Python that all tests share.
var fileInterpreter = sync.OnceValues(func() (*procs.Interpreter, error) { return procs.StartPython(filePython, "partd") })

func fileNeedsPython(t *testing.T) {
	t.Helper()
	_, err := fileInterpreter()
	fileRequire(t, err == nil, "python3-partd under "+filePython)
}

// filePythonRun runs a script, in which p is the store in the directory, and returns its output.
func filePythonRun(t testing.TB, script, dir string, args ...string) string {
	t.Helper()
	script = "import sys, partd, shutil\np = partd.File(sys.argv[1])\n" + script
	p := must.Get(fileInterpreter())(t)
	out, err := p.Run(script, append([]string{dir}, args...)...)
	if err != nil {
		t.Errorf("the Python script failed: %v", err)
	}
	return out
}

// filePlainKeys are keys that have the same file name in Go and Python.
var filePlainKeys = []string{"a", "Key", "key", "x.y", "with space", "(1)", "a-b_c", "0", "..."}

// TestFilePythonSharesKeys checks that Go reads and extends what Python has written, and that Python reads the result.
func TestFilePythonSharesKeys(t *testing.T) {
	fileNeedsPython(t)
	dir := t.TempDir()
	filePythonRun(t, `
for key in sys.argv[2:]:
    p.append({key: b'one\x00'})
    p.append({key: b'two'})
p.append({'empty': b''})
p.iset('once', b'1')
p.iset('once', b'2')
`, dir, filePlainKeys...)
	f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
	content, result := map[string]string{"empty": "", "once": "1"}, ""
	for _, key := range filePlainKeys {
		content[key] = "one\x00two"
		result += key + "=one\x00twothree\n"
	}
	fileWantContent(t, f, content)
	for _, key := range filePlainKeys {
		fileAppend(t, f, key, "th", "not for python!", "x", key, "ree")
	}
	must.Do(t, f.SetOnce(t.Context(), "a", []byte("not set")))
	got := filePythonRun(t, `
for key in sys.argv[2:]:
    print('%s=%s' % (key, p.get(key).decode()))
`, dir, filePlainKeys...)
	if got != result {
		t.Fatalf("Python read %q, want %q", got, result)
	}
}

// TestFilePythonAndGoTogether checks that concurrent appends by Python and Go are not lost, torn or out of order.
func TestFilePythonAndGoTogether(t *testing.T) {
	fileNeedsPython(t)
	const writers, batches, keys = 3, 40, 12
	dir := t.TempDir()
	fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			out, err := exec.Command(filePython, "-c", `
import sys, partd
p = partd.File(sys.argv[1])
name, batches, keys = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for n in range(batches):
    p.append({'k%d' % k: ('<%s %d %s>' % (name, n, 'x' * (k * k * 50))).encode() for k in range(keys)})
    got = p.get('k1').decode()
    assert got.startswith('<') and got.endswith('>'), got
`, dir, fmt.Sprint("py", w), fmt.Sprint(batches), fmt.Sprint(keys)).CombinedOutput()
			if err != nil {
				t.Errorf("the Python script failed: %v\n%s", err, out)
			}
		})
		// Each goroutine has its own store, so it locks like a separate process.
		wg.Go(func() {
			f, err := storetest.OpenDir(fileOS, dir, &partd.FileOptions{MaxOpenFiles: 1 + w*10}, filedir.Hooks{})
			if !must.Check(t, err) {
				return
			}
			defer f.Close()
			for n := range batches {
				var entries []partd.Entry
				for k := range keys {
					value := fmt.Sprintf("<go%d %d %s>", w, n, strings.Repeat("x", k*k*50))
					entries = append(entries, partd.Entry{Key: fmt.Sprint("k", k), Value: []byte(value)})
				}
				if !must.Check(t, f.Append(t.Context(), entries...)) {
					return
				}
				if n%5 == 0 {
					time.Sleep(20 * time.Millisecond) // give Python a chance to take the lock
				}
			}
		})
	}
	wg.Wait()
	content := must.Get(fileContent(fileOpen(t, fileOS, dir, nil, filedir.Hooks{})))(t)
	for k := range keys {
		next := map[string]int{}
		for _, piece := range strings.SplitAfter(content[fmt.Sprint("k", k)], ">") {
			var name, fill string
			var n int
			if piece == "" {
				continue
			}
			if _, err := fmt.Sscanf(strings.ReplaceAll(piece, " >", " ->"), "<%s %d %s", &name, &n, &fill); err != nil {
				t.Fatalf("key %d has a torn piece %.60q: %v", k, piece, err)
			}
			if want := fmt.Sprintf("<%s %d %s>", name, n, strings.Repeat("x", k*k*50)); piece != want {
				t.Fatalf("key %d has a torn piece %.60q", k, piece)
			}
			if n != next[name] {
				t.Fatalf("key %d has piece %d of writer %s, want piece %d next", k, n, name, next[name])
			}
			next[name]++
		}
		if len(next) != 2*writers {
			t.Fatalf("key %d has pieces of %d writers, want %d", k, len(next), 2*writers)
		}
		for name, n := range next {
			if n != batches {
				t.Fatalf("key %d has %d pieces of writer %s, want %d", k, n, name, batches)
			}
		}
	}
}

// TestFilePythonDrops checks that an open Go store still works after Python's drop recreates the directory without its
// lock.
func TestFilePythonDrops(t *testing.T) {
	fileNeedsPython(t)
	dir := filepath.Join(t.TempDir(), "store")
	f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
	for round := range 3 {
		fileAppend(t, f, "a", "1", "b!", "2")
		fileWantContent(t, f, map[string]string{"a": "1", "b!": "2"})
		filePythonRun(t, `
p.drop()
if sys.argv[2] == '1': p.append({'a': b'0'})
`, dir, fmt.Sprint(round))
		if round == 1 {
			fileWantContent(t, f, map[string]string{"a": "0"})
			fileAppend(t, f, "a", "1")
			fileWantContent(t, f, map[string]string{"a": "01"})
			must.Do(t, f.Drop(t.Context()))
		}
	}
	fileAppend(t, f, "c", "3")
	fileWantContent(t, f, map[string]string{"c": "3"})
	filePythonRun(t, "shutil.rmtree(sys.argv[1])", dir)
	fileWantContent(t, f, map[string]string{})
	fileAppend(t, f, "d", "4")
	fileWantContent(t, f, map[string]string{"d": "4"})
	must.Get(os.Stat(filepath.Join(dir, ".lock")))(t)
}

// TestFilePythonChangesOpenFiles checks appends to files that a Go store has open and Python deletes, replaces or
// extends.
func TestFilePythonChangesOpenFiles(t *testing.T) {
	fileNeedsPython(t)
	dir := t.TempDir()
	f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
	fileAppend(t, f, "deleted", "1", "set", "1", "longer", "1", "again", "1")
	filePythonRun(t, `
p.delete(['deleted', 'again'])
p.iset('set', b'')
p.append({'longer': b'py', 'again': b'py'})
`, dir)
	fileAppend(t, f, "deleted", "2", "set", "2", "longer", "2", "again", "2")
	fileWantContent(t, f, map[string]string{"deleted": "2", "set": "2", "longer": "1py2", "again": "py2"})
}
