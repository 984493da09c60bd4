package objstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
)

// TestMain can make the test program a writer that prints its acknowledged pieces until it is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("PARTD_KILL_DIR"); dir != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(dir, os.Getenv("PARTD_KILL_WRITER")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func writeUntilKilled(dir, writer string) error {
	ctx := context.Background()
	b, err := OpenDirectory(dir)
	if err != nil {
		return err
	}
	s, err := Open(ctx, b, &Options{Memory: MinMemory})
	if err != nil {
		return err
	}
	killAt, _ := strconv.Atoi(os.Getenv("PARTD_KILL_AT")) // the number of waiting records that this process creates before it kills itself
	s.bucket = &faultyBucket{Bucket: b, create: func(ctx context.Context, name string, data []byte) error {
		time.Sleep(rand.N(4 * time.Millisecond)) // lets other writers win
		err := b.Create(ctx, name, data)
		if strings.HasPrefix(name, waitPrefix) {
			if killAt--; killAt == 0 {
				self, err := os.FindProcess(os.Getpid())
				if err == nil {
					err = self.Kill()
				}
				panic(err)
			}
		}
		return err
	}}
	for i := 0; ; i++ {
		err := s.Append(ctx, partd.Entry{Key: "all", Value: fmt.Appendf(nil, "%s.%d;", writer, i)})
		if err = errors.Join(err, s.Flush(ctx)); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

// TestKilledWriters kills writer processes, half of them right after they created a waiting record, which
// other writers may commit. All pieces that they reported as acknowledged must exist once, and in order.
func TestKilledWriters(t *testing.T) {
	dir := t.TempDir()
	b, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	const workers, processes = 5, 4
	var mu sync.Mutex
	acknowledged := map[string]int{} // number of pieces by writer
	killedWhileWaiting := 0
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for process := range processes {
				writer := fmt.Sprintf("%d-%d", worker, process)
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), "PARTD_KILL_DIR="+dir, "PARTD_KILL_WRITER="+writer)
				if process%2 == 0 {
					cmd.Env = append(cmd.Env, fmt.Sprint("PARTD_KILL_AT=", 1+worker))
				}
				cmd.Stderr = t.Output()
				out, err := cmd.StdoutPipe()
				if err == nil {
					err = cmd.Start()
				}
				if err != nil {
					t.Error(err)
					return
				}
				pieces, limit := 0, 5+rand.IntN(20)
				for lines := bufio.NewScanner(out); lines.Scan(); {
					if lines.Text() != fmt.Sprint(pieces) {
						t.Errorf("the writer printed %q, want %d", lines.Text(), pieces)
					}
					if pieces++; pieces == limit && process%2 == 1 || pieces == 500 { // after 500 pieces, no other writer competes
						if err := cmd.Process.Kill(); err != nil {
							t.Error(err)
						}
					}
				}
				err = cmd.Wait()
				mu.Lock()
				acknowledged[writer] = pieces
				if killed := err != nil && err.Error() == "signal: killed"; !killed {
					t.Error(err)
				}
				if process%2 == 0 && pieces < 500 {
					killedWhileWaiting++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	all, err := readValue(t, b, "all")
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for piece := range strings.SplitSeq(strings.TrimSuffix(all, ";"), ";") {
		writer, i, _ := strings.Cut(piece, ".")
		if i != fmt.Sprint(counts[writer]) {
			t.Errorf("piece %s follows %d pieces of its writer", piece, counts[writer])
		}
		counts[writer]++
	}
	unacknowledged := 0
	for writer, n := range acknowledged {
		if counts[writer] != n && counts[writer] != n+1 { // the writer may have died before it printed the last piece
			t.Errorf("writer %s has %d pieces, but %d were acknowledged", writer, counts[writer], n)
		}
		unacknowledged += counts[writer] - n
	}
	t.Logf("%d pieces of %d writers, %d killed when their record began to wait; %d records of dead writers were committed without an acknowledgment",
		len(strings.Split(all, ";"))-1, len(acknowledged), killedWhileWaiting, unacknowledged)
	if killedWhileWaiting == 0 {
		t.Error("no writer was killed right after it created a waiting record, so the test proves nothing about such records")
	}
}
