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

// The test program is also a writer, in a directory, that appends and says what was
// acknowledged, until it is killed.
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
	at, _ := strconv.Atoi(os.Getenv("PARTD_KILL_AT")) // this many times after it began to wait
	s.bucket = &lying{Bucket: b, create: func(ctx context.Context, name string, data []byte) error {
		time.Sleep(rand.N(4 * time.Millisecond)) // so that others are faster
		err := b.Create(ctx, name, data)
		if strings.HasPrefix(name, waitPrefix) {
			if at--; at == 0 {
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

// Writers in processes of their own are killed, half of them right after their record began to
// wait. What they said was acknowledged is there once, and in order.
func TestKilledWriters(t *testing.T) {
	dir := t.TempDir()
	b, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	const lanes, lives = 5, 4
	var mu sync.Mutex
	acknowledged := map[string]int{} // how many pieces of each writer
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
				pieces, most := 0, 5+rand.IntN(20)
				for lines := bufio.NewScanner(out); lines.Scan(); {
					if lines.Text() != fmt.Sprint(pieces) {
						t.Errorf("%q", lines.Text())
					}
					if pieces++; pieces == most && life%2 == 1 || pieces == 500 { // 500: nobody contends any more
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
	found := map[string]int{}
	for piece := range strings.SplitSeq(strings.TrimSuffix(all, ";"), ";") {
		writer, i, _ := strings.Cut(piece, ".")
		if i != fmt.Sprint(found[writer]) {
			t.Errorf("%s follows %d pieces of its writer", piece, found[writer])
		}
		found[writer]++
	}
	late := 0
	for writer, n := range acknowledged {
		if found[writer] != n && found[writer] != n+1 { // the last one was not acknowledged, or the kill was faster than its line
			t.Errorf("%s: %d pieces, acknowledged were %d", writer, found[writer], n)
		}
		late += found[writer] - n
	}
	t.Logf("%d pieces of %d writers, %d killed when their record began to wait; of the dead, %d records count that were not acknowledged",
		len(strings.Split(all, ";"))-1, len(acknowledged), byItself, late)
	if byItself == 0 {
		t.Error("none was killed when its record began to wait")
	}
}
