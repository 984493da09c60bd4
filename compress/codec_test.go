package compress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress/blosc"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// python is Debian's Python, which finds the packages python3-partd, python3-snappy and python3-blosc.
const python = "/usr/bin/python3"

// interpreter starts a Python that all tests share.
var interpreter = sync.OnceValues(func() (*procs.Interpreter, error) {
	return procs.StartPython(python, "partd", "snappy", "blosc")
})

func needsPython(t *testing.T) {
	t.Helper()
	if _, err := interpreter(); err != nil {
		procs.Skip(t, "needs python3-partd, python3-snappy and python3-blosc under %s: %v", python, err)
	}
}

func runPython(t *testing.T, script string, args ...string) string {
	t.Helper()
	p := must.Get(interpreter())(t)
	return must.Get(p.Run(script, args...))(t)
}

// pieces returns values to append one after another, as Python expressions and as bytes.
func pieces() (expressions []string, values [][]byte) {
	numbers := make([]byte, 0, 240_000)
	for i := range 30_000 {
		numbers = append(numbers, byte(i), byte(i>>8), byte(i>>16), byte(i>>24), 0, 0, 0, 0)
	}
	random := make([]byte, 0, 20_000)
	for i, x := 0, uint32(1); i < 20_000; i++ {
		x = x*1664525 + 1013904223
		random = append(random, byte(x>>24))
	}
	expressions = []string{
		`b'a'`, `b'a' * 24`, `b'Hello, ' * 10001`, `bytes(range(256))`,
		`b''.join(i.to_bytes(8, 'little') for i in range(30000))`, `noise(20000)`,
	}
	values = [][]byte{
		[]byte("a"), bytes.Repeat([]byte("a"), 24), bytes.Repeat([]byte("Hello, "), 10001), allBytes(),
		numbers, random,
	}
	return expressions, values
}

const noise = `
def noise(n):
    x, out = 1, bytearray()
    for i in range(n):
        x = (x * 1664525 + 1013904223) % 2**32
        out.append(x >> 24)
    return bytes(out)
`

func allBytes() []byte {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// pythonNames returns the names of the classes in Python's partd, by format.
func pythonNames() map[Format]string {
	return map[Format]string{
		Snappy: "Snappy", Zlib: "ZLib",
		BZ2: "BZ2", Blosc: "Blosc",
	}
}

// TestPython checks that Go and Python can append to one directory in turn, and that both read all of the data.
func TestPython(t *testing.T) {
	needsPython(t)
	expressions, values := pieces()
	for format, class := range pythonNames() {
		t.Run(class, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			ctx := t.Context()
			var store partd.Partd
			reopen := func() {
				if store != nil {
					must.Do(t, partd.Close(ctx, store))
				}
				store = must.Get(New(openFile(t, dir), format, nil))(t)
			}
			reopen()
			var want []byte
			for turn := 0; turn < len(values); turn += 3 {
				for _, v := range values[turn : turn+3] {
					must.Do(t, store.Append(ctx, partd.Entry{Key: "k", Value: v}, partd.Entry{Key: "only Go", Value: v}))
				}
				runPython(t, noise+`
import sys, partd
p = getattr(partd, sys.argv[2])(partd.File(sys.argv[1]))
for piece in [`+strings.Join(expressions[turn:turn+3], ", ")+`]:
    p.append({'k': piece})
p.append({'k': b''})
p.iset('once', b'first')
p.iset('once', b'second')
`, dir, class)
				for range 2 {
					want = append(want, bytes.Join(values[turn:turn+3], nil)...)
				}
			}
			must.Do(t, errors.Join(partd.SetOnce(ctx, store, "once", []byte("third")), partd.Set(ctx, store, "set", values[2])))
			reopen()
			got := must.Get(store.Get(ctx, "k", "once", "nothing"))(t)
			if !bytes.Equal(got[0], want) || string(got[1]) != "first" || len(got[2]) > 0 {
				t.Errorf("Go read %d bytes, %q and %q, want %d bytes, first and nothing", len(got[0]), got[1], got[2], len(want))
			}
			for chunk, err := range partd.Scan(ctx, store) {
				if err != nil || chunk.Key == "k" && !bytes.Equal(chunk.Data, want[chunk.Offset:][:len(chunk.Data)]) {
					t.Fatalf("Scan yields wrong data of key %q at offset %d, or the error %v", chunk.Key, chunk.Offset, err)
				}
			}
			for info, err := range partd.Keys(ctx, store) {
				if err != nil || info.Key == "k" && info.Size != int64(len(want)) {
					t.Errorf("Keys yields %v, %v, want k with %d bytes", info, err, len(want))
				}
			}
			runPython(t, noise+`
import sys, partd
p = getattr(partd, sys.argv[2])(partd.File(sys.argv[1]))
pieces = [`+strings.Join(expressions, ", ")+`]
assert p.get('k') == b''.join(pieces[:3] * 2 + pieces[3:] * 2)
assert p.get('only Go') == b''.join(pieces)
assert p.get('once') == b'first'
assert p.get('set') == pieces[2]
p.delete(['only Go'])
`, dir, class)
			if got, err := store.Get(ctx, "only Go"); err != nil || len(got[0]) > 0 {
				t.Errorf("Get after Python's delete = %q, %v, want nothing", got, err)
			}
			must.Do(t, partd.Close(ctx, store))
		})
	}
}

// TestPythonBlosc checks that Go reads containers that Python wrote with every codec and shuffle and
// several type sizes, and that Python reads containers of each kind that Go writes.
func TestPythonBlosc(t *testing.T) {
	needsPython(t)
	expressions, values := pieces()
	dir := filepath.Join(t.TempDir(), "store")
	must.Do(t, openFile(t, dir).(*partd.File).Close())
	out := runPython(t, noise+`
import sys, partd, blosc, itertools
from partd.utils import frame
p = partd.File(sys.argv[1])
pieces = [`+strings.Join(expressions, ", ")+`]
for n, (cname, shuffle, size, level, threads) in enumerate(itertools.product(
        blosc.cnames, [blosc.NOSHUFFLE, blosc.SHUFFLE, blosc.BITSHUFFLE], [1, 2, 3, 4, 8, 16, 17, 255], [0, 1, 5, 9], [1, 2])):
    if level in (0, 1, 9) and size != 8 or threads == 2 and (size != 4 or level != 5): continue
    blosc.set_nthreads(threads)
    key = '%s %d %d %d %d' % (cname, shuffle, size, level, threads)
    p.append({key: b''.join(frame(blosc.compress(x, typesize=size, clevel=level, shuffle=shuffle, cname=cname)) for x in pieces)})
    print(key)
`, dir)
	want := bytes.Join(values, nil)
	store := must.Get(New(openFile(t, dir), Blosc, nil))(t)
	keys := strings.Split(strings.TrimSpace(out), "\n")
	if len(keys) < 6*3*12 {
		t.Fatalf("Python wrote %d keys, want at least %d", len(keys), 6*3*12)
	}
	for _, key := range keys {
		got, err := store.Get(t.Context(), key)
		if err != nil || !bytes.Equal(got[0], want) {
			t.Errorf("Get of %s (codec, shuffle, type size, level, threads) = %d bytes, want %d, %v", key, len(got[0]), len(want), err)
		}
	}
	must.Do(t, store.Drop(t.Context()))
	var written []string
	for _, codec := range []blosc.Compressor{blosc.LZ4, blosc.Zstd, blosc.Copy} {
		for _, shuffle := range []blosc.Shuffle{blosc.ByteShuffle, blosc.BitShuffle, blosc.NoShuffle} {
			for _, size := range []int{0, 1, 2, 3, 4, 8, 16, 17, 255} {
				for _, level := range []int{0, 1, 2, 9} {
					if codec == blosc.Copy && level > 0 || level > 0 && size > 0 && size != 8 {
						continue
					}
					layer := must.Get(New(store.Unwrap(), Blosc, &Options{
						Inner: codec, Shuffle: shuffle, TypeSize: size, Level: level,
					}))(t)
					key := fmt.Sprint(codec, shuffle, size, level)
					written = append(written, key)
					for _, v := range values {
						must.Do(t, layer.Append(t.Context(), partd.Entry{Key: key, Value: v}))
					}
					if got, err := layer.Get(t.Context(), key); err != nil || !bytes.Equal(got[0], want) {
						t.Errorf("Get of %s (codec, shuffle, type size, level) returned %d values that differ from the %d bytes that Go wrote, %v", key, len(got), len(want), err)
					}
				}
			}
		}
	}
	runPython(t, noise+`
import sys, partd
p = partd.Blosc(partd.File(sys.argv[1]))
want = b''.join([`+strings.Join(expressions, ", ")+`])
for key in sys.argv[2:]:
    assert p.get(key) == want, key
`, append([]string{dir}, written...)...)
	must.Do(t, store.Close())
}

// TestS2HeaderDamage checks that a flipped bit before the data of a long piece is detected by every read.
func TestS2HeaderDamage(t *testing.T) {
	dict := partd.NewDict()
	s := newStore(t, dict, S2, nil)
	good := bytes.Repeat([]byte("0123456789"), s2Block/5)
	piece := pack(t, S2, good)
	for bit := range 8 * (len(s2Identifier) + s2HeaderLen + 8 + s2ChecksumLen) {
		damaged := bytes.Clone(piece)
		damaged[bit/8] ^= 1 << (bit % 8)
		must.Do(t, dict.Set(t.Context(), "k", frame.Append(nil, damaged)))
		wantCorrupt(t, s, fmt.Sprintf("bit %d flipped", bit), 0, good)
	}
}

// TestS2OfFalseSize checks that an S2 piece that is valid except for the total size in its length chunk is damaged. The
// S2 library skips this chunk.
func TestS2OfFalseSize(t *testing.T) {
	data := randomText(s2Block + 1000)
	piece := pack(t, S2, data)
	length := piece[len(s2Identifier)+s2HeaderLen:][:8+s2ChecksumLen]
	for _, claimed := range []int{s2Block, len(data) - 1, len(data), len(data) + 1, 2 * len(data)} {
		dict := partd.NewDict()
		s := newStore(t, dict, S2, nil)
		binary.LittleEndian.PutUint64(length, uint64(claimed))
		binary.LittleEndian.PutUint32(length[8:], s.codec.(*s2Codec).checksum(length[:8]))
		must.Do(t, dict.Set(t.Context(), "k", frame.Append(nil, piece)))
		for method, read := range readMethods(s) {
			got, err := read()
			if claimed == len(data) && (err != nil || !bytes.Equal(got, data)) {
				t.Errorf("%s of intact data = %d bytes, %v", method, len(got), err)
			} else if claimed != len(data) && !errors.As(err, new(*partd.CorruptError)) {
				t.Errorf("%s of %d bytes that claim to be %d = %d bytes, %v", method, len(data), claimed, len(got), err)
			}
		}
	}
}
