//go:build unix

package pull

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	_ "github.com/go-partd/partd/tables/internal/testutil/tabletest" // its ballast
)

const killLease = 2 * time.Second

func TestMain(m *testing.M) { procs.Roles{"node": runNode}.Main(m) }

// runNode runs a node that executes commands from its standard input. Its arguments are the node's directory, the
// registry's URL, and the port of the local registry, or 0 for the usual one.
func runNode(args []string) error {
	if port, err := strconv.Atoi(args[2]); err != nil {
		return err
	} else if port > 0 {
		localPort = port
	}
	n, err := Open(context.Background(), args[0], &Options{Registry: args[1], Listen: "127.0.0.1:0", Lease: killLease, SyncTimeout: 20 * time.Second})
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var k int
		out := ""
		if _, err = fmt.Sscanf(lines.Text(), "save %d", &k); err == nil {
			// Each save has the same ten days, and one day that no other save has.
			v := strconv.Itoa(k)
			column := "k=" + strings.Repeat(v+",", 9) + v
			_, err = n.Save(context.Background(), "x", withExtraDay(rowsOf(&testing.T{}, 0, column), k))
		} else {
			r, err2 := n.Load(context.Background(), lines.Text(), time.Time{}, time.Time{})
			if err = err2; err == nil {
				out, err = formatRows(r)
			}
		}
		if err != nil {
			fmt.Println("err", strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		fmt.Println("ok", strings.ReplaceAll(out, "\n", ";"))
	}
	return nil
}

// withExtraDay appends a row for a day that only save k has.
func withExtraDay(r array.RecordReader, k int) array.RecordReader {
	own := rowsOf(&testing.T{}, 10+k, "k="+strconv.Itoa(k))
	return batches.Reader(r.Schema(), func(yield func(arrow.RecordBatch, error) bool) {
		for _, r := range []array.RecordReader{r, own} {
			for r.Next() {
				r.RecordBatch().Retain()
				if !yield(r.RecordBatch(), nil) {
					return
				}
			}
		}
	}, func() {})
}

// child is a process that executes runNode. It can be killed and started again.
type child struct {
	*procs.Process
	dir, url string
	port     int
	paused   bool
	mu       sync.Mutex // one command at a time
}

func (c *child) start(t *testing.T) {
	t.Helper()
	cmd := procs.Command("node", c.dir, c.url, strconv.Itoa(c.port))
	cmd.Stderr = t.Output()
	c.Process = procs.Start(t, cmd)
}

func (c *child) ask(line string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	answer, ok := c.Ask(line)
	if !ok {
		return "", errors.New("the process has ended")
	}
	text, ok := strings.CutPrefix(answer, "ok ")
	if !ok {
		return "", errors.New(answer)
	}
	return text, nil
}

func (c *child) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	must.Do(t, c.Cmd.Process.Signal(s))
	c.paused = s == syscall.SIGSTOP
}

// history records when each save was acknowledged. It checks that loaded rows include the saves
// that a Load must return.
type history struct {
	mu    sync.Mutex
	tried map[int]bool
	acked map[int]time.Time
}

func newHistory() *history {
	return &history{tried: map[int]bool{}, acked: map[int]time.Time{}}
}

func (h *history) save(c *child, k int) error {
	h.mu.Lock()
	h.tried[k] = true
	h.mu.Unlock()
	_, err := c.ask(fmt.Sprintf("save %d", k))
	if err == nil {
		h.mu.Lock()
		h.acked[k] = time.Now()
		h.mu.Unlock()
	}
	return err
}

// check checks the rows of a Load that began at the given time, and returns the number of
// the newest save in them.
func (h *history) check(text string, began time.Time) (newest int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	set, saves := map[string]bool{}, map[int]bool{}
	newest = -1
	for _, row := range strings.Split(strings.TrimSuffix(text, ";"), ";") { // the process sends semicolons instead of line breaks
		day, value, _ := strings.Cut(row, " ")
		d, err := strconv.Atoi(day)
		k, err2 := strconv.Atoi(value)
		if err != nil || err2 != nil {
			return 0, fmt.Errorf("the row %q is malformed", row)
		}
		if d < 10 {
			set[value] = true
		} else if saves[k] = true; d != 10+k || !h.tried[k] {
			return 0, fmt.Errorf("no process saved the row %q", row)
		}
		newest = max(newest, k)
	}
	if len(set) != 1 || !set[strconv.Itoa(newest)] {
		return 0, fmt.Errorf("the rows mix %d versions: %q", len(set), text)
	}
	for k, ackedAt := range h.acked {
		if !saves[k] && (k < newest || began.Sub(ackedAt) > killLease) {
			return 0, fmt.Errorf("save %d, acknowledged %v before the Load, is missing; the newest is %d", k, began.Sub(ackedAt), newest)
		}
	}
	return newest, nil
}

// TestKill kills and pauses five processes that save and load. Each Load must return a
// complete version that is no older than promised. PARTD_KILLS sets the number of rounds.
func TestKill(t *testing.T) {
	t.Parallel()
	rounds := procs.Kills(t, 30)
	s := must.Get(startServer(t.TempDir(), server.RANDOM_PORT, ""))(t)
	defer s.Shutdown()
	children := make([]*child, 5)
	for i := range children {
		children[i] = &child{dir: t.TempDir(), url: s.ClientURL()}
		children[i].start(t)
	}
	h := newHistory()
	waitFor(t, "the first save to succeed", func() bool { return h.save(children[0], 0) == nil })
	var saved, failed, loaded, refused int
	for round := 1; round <= rounds; round++ {
		order := rand.Perm(len(children))
		saver, victim, others := children[order[0]], children[order[1]], order[2:]
		switch rand.IntN(4) {
		case 0: // kill the saver during its save
			victim = saver
			saver.KillAfter(time.Duration(rand.IntN(60)) * time.Millisecond)
		case 1:
			victim.Kill()
		case 2:
			victim.signal(t, syscall.SIGSTOP)
		}
		if err := h.save(saver, round); err == nil {
			saved++
		} else {
			failed++
			t.Logf("round %d: save: %v", round, err)
		}
		var group sync.WaitGroup
		var mu sync.Mutex
		for _, i := range others {
			group.Go(func() {
				began := time.Now()
				text, err := children[i].ask("x")
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					if refused++; !strings.Contains(err.Error(), ErrSyncFailed.Error()) {
						t.Errorf("round %d: Load by process %d: got error %v, want ErrSyncFailed or none", round, i, err)
					}
				} else if loaded++; true {
					if _, err := h.check(text, began); err != nil {
						t.Errorf("round %d: Load by process %d: %v", round, i, err)
					}
				}
			})
		}
		group.Wait()
		if victim.paused {
			victim.signal(t, syscall.SIGCONT)
			began := time.Now()
			if text, err := victim.ask("x"); err == nil {
				if _, err := h.check(text, began); err != nil {
					t.Errorf("round %d: Load after a pause: %v", round, err)
				}
			}
			continue
		}
		if victim.Cmd.ProcessState != nil || victim == saver {
			victim.Kill()
			victim.start(t)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d saved, %d failed; %d loaded, %d refused", saved, failed, loaded, refused)
	if saved == 0 || loaded == 0 {
		t.Errorf("%d saves and %d loads succeeded, want some of both", saved, loaded)
	}
	// Once all processes run again, each must load the newest version.
	for _, c := range children {
		waitFor(t, "the newest version", func() bool {
			text, err := c.ask("x")
			if err != nil {
				t.Log(err)
				return false
			}
			if _, err = h.check(text, time.Now().Add(killLease)); err != nil {
				t.Log(err)
			}
			return err == nil
		})
	}
}

// TestRegistryMoves kills the process that runs a machine's registry. Another process then runs the
// registry, in one case with an outdated copy of the registry on its disk. Loads must return the
// saved rows.
func TestRegistryMoves(t *testing.T) {
	port := portOf(t, "localhost:"+nettest.FreePort(t))
	children := make([]*child, 3)
	for i := range children {
		children[i] = &child{dir: t.TempDir(), port: port}
	}
	h, saves := newHistory(), 0
	save := func(c *child) {
		t.Helper()
		waitFor(t, "a save", func() bool { saves++; return h.save(c, saves) == nil })
	}
	// loadsNewest loads until the result is the newest version. Earlier results must not be
	// older than promised, and the table must exist.
	loadsNewest := func(c *child) {
		t.Helper()
		waitFor(t, "the newest version", func() bool {
			began := time.Now()
			text, err := c.ask("x")
			if err == nil {
				must.Get(h.check(text, began))(t)
				_, err = h.check(text, began.Add(killLease))
			} else if !strings.Contains(err.Error(), ErrSyncFailed.Error()) {
				t.Fatal(err)
			}
			return err == nil
		})
	}
	first, second, third := children[0], children[1], children[2]
	first.start(t) // runs the registry
	save(first)
	second.start(t)
	third.start(t)
	loadsNewest(second)
	save(second)
	loadsNewest(third)
	first.Kill()
	loadsNewest(third)
	loadsNewest(second)
	save(third)
	first.start(t)
	loadsNewest(first)
	loadsNewest(second)
	save(second) // the first process does not load this version
	second.Kill()
	third.Kill() // the first process starts the registry again, with outdated content
	second.start(t)
	loadsNewest(first)
	loadsNewest(second)
	save(first)
	loadsNewest(second)
}
