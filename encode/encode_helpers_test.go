package encode

import (
	"context"
	"errors"
	"flag"
	"math"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/remote"
)

// opener opens an empty store.
type opener struct {
	name string
	open func(t testing.TB) partd.Partd
}

// stores lists the stores of bytes for the tests of typed stores.
var stores = []opener{
	{"dict", func(testing.TB) partd.Partd { return partd.NewDict() }},
	{"file", func(t testing.TB) partd.Partd { return openFile(t, t.TempDir()) }},
	{"logstore", func(t testing.TB) partd.Partd {
		s := must.Get(logstore.Open(t.TempDir(), &logstore.Options{Memory: 4 << 20}))(t)
		t.Cleanup(func() { must.Do(t, s.Close()) })
		return s
	}},
	{"client", func(t testing.TB) partd.Partd { return dial(t, serve(t)) }},
}

// serve runs a server over a Dict until the test ends, and returns its URL.
func serve(t testing.TB) (url string) {
	t.Helper()
	server := must.Get(remote.NewServer(partd.NewDict(), nil))(t)
	listener := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	done := make(chan error, 1)
	go func() { done <- server.Serve(context.Background(), listener) }()
	t.Cleanup(func() { must.Do(t, errors.Join(server.Shutdown(context.Background()), <-done)) })
	return remote.URL(listener.Addr())
}

func dial(t testing.TB, url string) *remote.Client {
	t.Helper()
	client := must.Get(remote.Dial(context.Background(), url, nil))(t)
	t.Cleanup(func() { must.Do(t, client.Close()) })
	return client
}

// layered lists compressed stores, as in the examples of Python's partd.
var layered = []opener{
	{"bz2+dict", func(t testing.TB) partd.Partd { return withCompression(t, partd.NewDict(), compress.BZ2) }},
	{"snappy+file", func(t testing.TB) partd.Partd { return withCompression(t, openFile(t, t.TempDir()), compress.Snappy) }},
	{"snappy+client", func(t testing.TB) partd.Partd { return withCompression(t, dial(t, serve(t)), compress.Snappy) }},
	{"zstd+zlib+blosc+client", func(t testing.TB) partd.Partd {
		return withCompression(t, withCompression(t, withCompression(t, dial(t, serve(t)), compress.Blosc), compress.Zlib), compress.Zstd)
	}},
}

// withCompression returns a compressing layer over a store.
func withCompression(t testing.TB, p partd.Partd, format compress.Format) partd.Partd {
	t.Helper()
	return must.Get(compress.New(p, format, nil))(t)
}

func openFile(t testing.TB, dir string) *partd.File {
	t.Helper()
	f := must.Get(partd.OpenFile(dir, nil))(t)
	t.Cleanup(func() { must.Do(t, f.Close()) })
	return f
}

// python is Debian's Python, which finds Debian's packages.
const python = "/usr/bin/python3"

// interpreter starts a Python that all tests share.
var interpreter = sync.OnceValues(func() (*procs.Interpreter, error) {
	return procs.StartPython(python, "partd", "numpy", "msgpack", "snappy", "blosc", "zmq")
})

// runInterop runs testdata/interop.py and returns its output. It skips the test if Python's modules are absent, or
// fails it if PARTD_REQUIRE_ALL is set.
func runInterop(t *testing.T, args ...string) string {
	t.Helper()
	p, err := interpreter()
	if err != nil {
		procs.Skip(t, "needs Python's partd with its requirements under %s: %v", python, err)
	}
	script := must.Get(os.ReadFile("testdata/interop.py"))(t)
	return must.Get(p.Run(string(script), args...))(t)
}

// removeAfterTests lists directories that several tests share.
var removeAfterTests []string

// TestMain runs fewer rounds of each model than rapid's default. -rapid.checks=1000 runs more.
func TestMain(m *testing.M) {
	procs.CollectLess()
	procs.TempInMemory()
	flag.Parse()
	isSet := false
	flag.Visit(func(f *flag.Flag) { isSet = isSet || f.Name == "rapid.checks" })
	if !isSet {
		if err := flag.Set("rapid.checks", "30"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	for _, dir := range removeAfterTests {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// readTestdata reads a frame in testdata that Python's partd 1.4.2 wrote.
func readTestdata(t testing.TB, name string) []byte {
	t.Helper()
	return must.Get(os.ReadFile("testdata/pandas/" + name))(t)
}

// testdataFrame returns the frame that the files of testdata/pandas contain. The types of texts and
// categories differ between pandas 2 and 3.
func testdataFrame(texts, categories any) DataFrame {
	const day = 24 * 3600e9
	return DataFrame{
		Columns: []Column{
			{"n", []int64{1, -2, 3}},
			{"x", []float64{0.5, math.Inf(1), -1}},
			{"b", []bool{true, false, true}},
			{"m", []int64{4, 5, 6}},
			{"t", Times{"us", "", []int64{1700000000e6, math.MinInt64, -5e6}}},
			{"z", Times{"ms", "Europe/Paris", []int64{1700000000e3, -5e3, 4102444800e3}}},
			{"d", Durations{"ms", []int64{1000, math.MinInt64, -3000}}},
			{"s", texts},
			{"o", []any{"a", nil, []byte{0xff}}},
			{"c", Categorical{[]int32{0, -1, 1}, categories, true}},
		},
		Index: Column{"when", Times{"ns", "", []int64{19723 * day, 19724 * day, 19725 * day}}},
	}
}

var pandasWriters = []*PandasOptions{nil, {Blosc: true}, {Snappy: true}, {Blosc: true, Snappy: true}}
