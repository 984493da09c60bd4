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

// The test program also acts as a writer in a directory, which appends and prints what
// was acknowledged until it is killed.
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
	killAt, _ := strconv.Atoi(os.Getenv("PARTD_KILL_AT")) // number of appends after it began to wait
	s.bucket = &lying{Bucket: b, create: func(ctx context.Context, name string, data []byte) error {
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

// Writer processes are killed, half of them right after their record began to wait.
// Everything that they reported as acknowledged must exist once, and in order.
func TestKilledWriters(t *testing.T) {
	dir := t.TempDir()
	b, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	const lanes, lives = 5, 4
	var mu sync.Mutex
	acknowledged := map[string]int{} // number of pieces by writer
	byItself := 0
	var wg sync.WaitGroup
	for lane := range lanes {
		wg.Go(func() {
			for life := range lives {
				writer := fmt.Sprintf("%d-%d", lane, life)
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), "PARTD_KILL_DIR="+dir, "PARTD_KILL_WRITER="+writer)
				if life%2 == 0 {
					cmd.Env = append(cmd.Env, fmt.Sprint("PARTD_KILL_AT=", 1+lane))
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
						t.Errorf("%q", lines.Text())
					}
					if pieces++; pieces == limit && life%2 == 1 || pieces == 500 { // at 500, no writer competes any more
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
				if life%2 == 0 && pieces < 500 {
					byItself++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	all, err := value(t, b, "all", hooks{})
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for piece := range strings.SplitSeq(strings.TrimSuffix(all, ";"), ";") {
		writer, i, _ := strings.Cut(piece, ".")
		if i != fmt.Sprint(counts[writer]) {
			t.Errorf("%s follows %d pieces of its writer", piece, counts[writer])
		}
		counts[writer]++
	}
	late := 0
	for writer, n := range acknowledged {
		if counts[writer] != n && counts[writer] != n+1 { // the last one was not acknowledged, or the kill came before its line
			t.Errorf("%s: %d pieces, but %d were acknowledged", writer, counts[writer], n)
		}
		late += counts[writer] - n
	}
	t.Logf("%d pieces of %d writers, %d killed when their record began to wait; %d unacknowledged records of dead writers count",
		len(strings.Split(all, ";"))-1, len(acknowledged), byItself, late)
	if byItself == 0 {
		t.Error("no writer was killed when its record began to wait")
	}
}
