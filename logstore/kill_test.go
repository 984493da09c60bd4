package logstore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// killEnv is an environment variable that makes the test program act as a writer: see TestMain.
const killEnv = "PARTD_TEST_KILL_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killEnv); dir != "" {
		if err := killWriter(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// killSyncEnv makes the writer use a store with Sync. killLimitEnv is the maximum number of batches to write.
const (
	killSyncEnv  = "PARTD_TEST_KILL_SYNC"
	killLimitEnv = "PARTD_TEST_KILL_MOST"
)

const killKeys = 5

// Each batch also has its own key, "job" and the batch number. The writer deletes that key
// jobLifetime batches later. As the argument k of killPiece, jobNumber stands for such a key.
const (
	jobLifetime = 20
	jobNumber   = 63
)

// killWriter appends numbered batches, up to the limit if there is one. Each batch appends to
// all keys, and to its own key. killWriter prints the number of each acknowledged batch.
func killWriter(dir string) error {
	s, err := open(dir, &Options{Memory: MinMemory, FileSize: 4 << 20, Sync: os.Getenv(killSyncEnv) != ""},
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
	limit, err := strconv.ParseUint(os.Getenv(killLimitEnv), 10, 64)
	if err != nil {
		limit = math.MaxUint64
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
	kills, err := strconv.Atoi(os.Getenv("PARTD_KILLS"))
	if err != nil {
		kills = 20
		if testing.Short() {
			kills = 3
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i := range kills {
		if i%25 == 24 { // start a new store, because reading a small one is faster
			dir = t.TempDir()
		}
		acked := killOnce(t, exe, dir)
		checkKilled(t, dir, acked, i)
	}
}

// killOnce runs a writer for a random time, and returns its last acknowledged batch, or -1.
func killOnce(t *testing.T, exe, dir string) int64 {
	t.Helper()
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), killEnv+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := make(chan error, 1)
	time.AfterFunc(time.Duration(rand.IntN(150_000))*time.Microsecond, func() { killed <- cmd.Process.Kill() })
	last := int64(-1)
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			break // an incomplete line does not count as an acknowledgement
		}
		if err != nil {
			t.Fatal(err)
		}
		if last, err = strconv.ParseInt(strings.TrimSpace(line), 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-killed; err != nil {
		t.Fatalf("the writer exited before it was killed: %v: %s", err, stderr.String())
	}
	_ = cmd.Wait() // returns an error, because the process was killed
	if stderr.Len() > 0 {
		t.Fatalf("the writer failed: %s", stderr.String())
	}
	return last
}

func checkKilled(t *testing.T, dir string, acked int64, kill int) {
	t.Helper()
	s, err := Open(dir, &Options{Memory: MinMemory})
	if err != nil {
		t.Fatalf("kill %d: opening the store: %v", kill, err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}()
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
	if _, err := s.Verify(t.Context()); err != nil {
		t.Fatalf("kill %d: Verify: %v", kill, err)
	}
	if int64(count) < acked+1 {
		t.Fatalf("kill %d: %d batches were acknowledged, but the store has %d", kill, acked+1, count)
	}
}
