package logstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestMain can make the test program a writer, which gets the store's directory, and then perhaps the maximum number of
// batches and the word "sync".
func TestMain(m *testing.M) {
	procs.CollectLess()
	procs.TempInMemory()
	procs.Roles{"writer": killWriter}.Main(m)
}

const killKeys = 5

// Each batch also has its own key, "job" and the batch number. The writer deletes that key
// jobLifetime batches later. As the argument k of killPiece, jobNumber stands for such a key.
const (
	jobLifetime = 20
	jobNumber   = 63
)

// killWriter appends numbered batches, up to the limit if there is one. Each batch appends to
// all keys, and to its own key. killWriter prints the number of each acknowledged batch.
func killWriter(args []string) error {
	s, err := openHooked(args[0], &Options{Memory: MinMemory, FileSize: 4 << 20, Sync: slices.Contains(args, "sync")},
		hooks{fs: vfs.OS{}, reclaimSlack: 256 << 10})
	if err != nil {
		return err
	}
	values, err := s.Get(context.Background(), "key0")
	if err != nil {
		return err
	}
	n := uint64(0)
	if v := values[0]; len(v) > 0 {
		start, _ := lastPiece(v)
		n = binary.LittleEndian.Uint64(v[start:]) + 1
	}
	if n > jobLifetime { // the previous writer may have been killed after it appended its last batch, before it deleted this key
		if err := s.Delete(context.Background(), fmt.Sprint("job", n-jobLifetime-1)); err != nil {
			return err
		}
	}
	limit := uint64(math.MaxUint64)
	if len(args) > 1 {
		if limit, err = strconv.ParseUint(args[1], 10, 64); err != nil {
			return err
		}
	}
	for ; n < limit; n++ {
		var batch []partd.Entry
		for k := range killKeys {
			batch = append(batch, partd.Entry{Key: fmt.Sprint("key", k), Value: killPiece(n, k)})
		}
		batch = append(batch, partd.Entry{Key: fmt.Sprint("job", n), Value: killPiece(n, jobNumber)})
		if err := s.Append(context.Background(), batch...); err != nil {
			return err
		}
		if n >= jobLifetime { // delete the keys of earlier batches
			if err := s.Delete(context.Background(), fmt.Sprint("job", n-jobLifetime), fmt.Sprint("job", n-jobLifetime-1)); err != nil {
				return err
			}
		}
		if _, err := fmt.Println(n); err != nil {
			return err
		}
	}
	return s.Close()
}

// killPiece returns the piece of batch n for key k. It begins with n and its length.
func killPiece(n uint64, k int) []byte {
	size := 12 + int(n*7919%2000)
	if n%64 == uint64(k) {
		size = 100_000 // large enough for a blob file
	}
	b := bytes.Repeat([]byte{byte(n), byte(k)}, size/2+1)[:size]
	binary.LittleEndian.PutUint64(b, n)
	binary.LittleEndian.PutUint32(b[8:], uint32(size))
	return b
}

// lastPiece returns the position of a value's last piece, and the number of its pieces.
func lastPiece(v []byte) (start, n int) {
	for p := 0; p < len(v); n++ {
		start = p
		p += int(binary.LittleEndian.Uint32(v[p+8:]))
	}
	return start, n
}

// TestKill checks that a writer that is killed at random times does not lose, tear or duplicate
// an append. PARTD_KILLS is the number of kills, 20 by default.
func TestKill(t *testing.T) {
	t.Parallel()
	kills := 20
	if testing.Short() {
		kills = 3
	}
	dir, rnd := t.TempDir(), procs.Rand(t)
	for i := range procs.Kills(t, kills) {
		if i%25 == 24 { // start a new store, because reading a small one is faster
			dir = t.TempDir()
		}
		p := procs.Start(t, procs.Command("writer", dir))
		p.KillAfter(time.Duration(rnd.IntN(150_000)) * time.Microsecond)
		acked := int64(-1)
		for line := range p.Lines() {
			acked = must.Get(strconv.ParseInt(line, 10, 64))(t)
		}
		p.WaitKilled(t)
		checkKilled(t, dir, acked, i)
	}
}

func checkKilled(t *testing.T, dir string, acked int64, kill int) {
	t.Helper()
	s, err := Open(dir, &Options{Memory: MinMemory})
	if err != nil {
		t.Fatalf("kill %d: opening the store: %v", kill, err)
	}
	defer func() { must.Do(t, s.Close()) }()
	got, err := contents(s)
	if err != nil {
		t.Fatalf("kill %d: Scan: %v", kill, err)
	}
	count := -1
	for k := range killKeys {
		v := got[fmt.Sprint("key", k)]
		_, n := lastPiece(v)
		if count < 0 {
			count = n
		}
		if n != count {
			t.Fatalf("kill %d: key %d has %d pieces, but another key has %d: a batch was torn", kill, k, n, count)
		}
		for i := uint64(0); len(v) > 0; i++ {
			want := killPiece(i, k)
			if !bytes.HasPrefix(v, want) {
				t.Fatalf("kill %d: key %d, piece %d has wrong content", kill, k, i)
			}
			v = v[len(want):]
		}
	}
	for n := range count {
		name := fmt.Sprint("job", n)
		v, exists := got[name]
		if exists && !bytes.Equal(v, killPiece(uint64(n), jobNumber)) || !exists && n >= count-jobLifetime || exists && n < count-jobLifetime-1 {
			t.Fatalf("kill %d: after %d batches, key %s is wrong: it has %d bytes, exists: %t", kill, count, name, len(v), exists)
		}
	}
	if _, err := s.verify(t.Context()); err != nil {
		t.Fatalf("kill %d: Verify: %v", kill, err)
	}
	if int64(count) < acked+1 {
		t.Fatalf("kill %d: %d batches were acknowledged, but the store has %d", kill, acked+1, count)
	}
}

// TestSystemCallFaults makes system calls of a writer process fail, starting at a given call. The
// writer must exit with an error that says what failed, and everything that it acknowledged must be
// in the store.
func TestSystemCallFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		call, errno, message string
		sync                 bool
	}{
		{"pwrite64", "ENOSPC", "no space left on device", false},
		{"pwrite64", "EIO", "input/output error", false},
		{"pwrite64", "EROFS", "read-only file system", false},
		{"fsync", "EIO", "input/output error", true},
		{"renameat", "EROFS", "read-only file system", false},
		{"ftruncate", "ENOSPC", "no space left on device", false},
	} {
		for _, when := range []string{"1+", "4+", "40+", "300+"} {
			name := fmt.Sprintf("%s %s %s", c.call, c.errno, when)
			dir := t.TempDir()
			args := []string{dir, "500"}
			if c.sync {
				args = append(args, "sync")
			}
			cmd := procs.Strace(t, procs.Command("writer", args...), os.DevNull, "-e", "trace="+c.call,
				"-e", fmt.Sprintf("inject=%s:error=%s:when=%s", c.call, c.errno, when))
			var out, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &stderr
			err := cmd.Run()
			procs.SkipUntraced(t, stderr.String())
			if err == nil && when != "1+" {
				continue // the writer made fewer calls
			}
			if err == nil || !strings.Contains(stderr.String(), c.message) {
				t.Fatalf("%s: the writer exited with %v and message %q, want %q", name, err, stderr.String(), c.message)
			}
			acked := int64(-1)
			lines := strings.Fields(out.String())
			if len(lines) > 0 {
				acked = must.Get(strconv.ParseInt(lines[len(lines)-1], 10, 64))(t)
			}
			checkKilled(t, dir, acked, 0)
		}
	}
}
