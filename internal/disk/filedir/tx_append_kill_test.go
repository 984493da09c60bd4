package filedir_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/storetest"
)

const fileKillKeys = 40

func TestMain(m *testing.M) {
	procs.CollectLess()
	procs.TempInMemory()
	procs.Roles{"writer": appendUntilKilled}.Main(m)
}

// appendUntilKilled appends numbered batches, and prints each number once the batch is acknowledged. Its arguments are
// the directory, a seed, the number of the first batch, and options.
func appendUntilKilled(args []string) error {
	dir, opts := args[0], args[3]
	seed, _ := strconv.ParseUint(args[1], 10, 64)
	firstBatch, _ := strconv.Atoi(args[2])
	rnd := rand.New(rand.NewPCG(seed, 1))
	var hooks filedir.Hooks
	var session uint64
	if _, after, ok := strings.Cut(opts, "session="); ok {
		session, _ = strconv.ParseUint(after, 10, 64)
	}
	if strings.Contains(opts, "kill-self") {
		writes := rnd.IntN(10 * fileKillKeys)
		hooks.AfterWrite = func() {
			if writes--; writes < 0 {
				procs.KillSelf()
			}
		}
	}
	f, err := storetest.OpenDir(vfs.OS{}, dir, &partd.FileOptions{MaxOpenFiles: 1 + int(seed%2)*100}, hooks)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for n := firstBatch; ; n++ {
		var err error
		if session == 0 {
			err = f.Append(context.Background(), fileKillBatch(n)...)
		} else {
			tag := partd.Tag{Session: session, Number: uint64(n) + 1, CRC: uint32(n)}
			_, err = f.Apply(context.Background(), tag, partd.Operation{Change: partd.ChangeAppend, Entries: fileKillBatch(n)})
		}
		if err != nil {
			return err
		}
		if strings.Contains(opts, "kill-after-apply") && rnd.IntN(5) == 0 { // die after applying the batch, but before acknowledging it
			procs.KillSelf()
		}
		fmt.Println("ack", n)
	}
}

// fileKillBatch returns a numbered batch. Some pieces span many pages, and the first key occurs twice.
func fileKillBatch(n int) []partd.Entry {
	var entries []partd.Entry
	for k := range fileKillKeys {
		entries = append(entries, partd.Entry{Key: fileKillKey(k), Value: fileKillPiece(n, k)})
	}
	return append(entries, partd.Entry{Key: fileKillKey(0), Value: fileKillPiece(n, 0)})
}

func fileKillKey(k int) string {
	if k%10 == 9 {
		return strings.Repeat("long!", 60) + strconv.Itoa(k)
	}
	return "key" + strconv.Itoa(k)
}

func fileKillPiece(n, k int) []byte {
	fill := k * 7
	if k == 5 {
		fill = 100_000
	}
	return fmt.Appendf(nil, "<%d.%d%s>", n, k, strings.Repeat("x", fill))
}

// fileCheckKilled checks the content of a store after a kill, and returns the number of batches in it.
func fileCheckKilled(f *storetest.Dir, acked int) (batches int, err error) {
	content, err := fileContent(f)
	if err != nil {
		return 0, err
	}
	// Count the batches of the first key. Every key must have as many.
	batches = strings.Count(content[fileKillKey(0)], ">") / 2
	if batches < acked {
		return 0, fmt.Errorf("%d batches were acknowledged, but the store has only %d", acked, batches)
	}
	if batches > acked+1 {
		return 0, fmt.Errorf("%d batches were acknowledged, but the store has %d, want at most one more than acknowledged", acked, batches)
	}
	for k := range fileKillKeys {
		var want strings.Builder
		for n := range batches {
			want.Write(fileKillPiece(n, k))
			if k == 0 {
				want.Write(fileKillPiece(n, k))
			}
		}
		if got := content[fileKillKey(k)]; got != want.String() {
			return 0, fmt.Errorf("key %d has %d bytes, want %d batches with a total of %d bytes (if the lengths are equal, the content differs)", k, len(got), batches, want.Len())
		}
	}
	if batches > 0 && len(content) != fileKillKeys {
		return 0, fmt.Errorf("the store has %d keys, want %d", len(content), fileKillKeys)
	}
	return batches, nil
}

// fileRunUntilKilled runs a child until it dies, and returns the total number of acknowledged batches.
func fileRunUntilKilled(t *testing.T, dir, opts string, seed uint64, firstBatch int, after time.Duration) (acked int) {
	t.Helper()
	p := procs.Start(t, procs.Command("writer", dir, strconv.FormatUint(seed, 10), strconv.Itoa(firstBatch), opts))
	p.WaitFor(t, "ready")
	p.KillAfter(after)
	acked = firstBatch
	for line := range p.Lines() {
		if line != fmt.Sprint("ack ", acked) {
			t.Errorf("the child printed %q, want ack %d", line, acked)
			break
		}
		acked++
	}
	p.WaitKilled(t)
	return acked
}

// TestFileKill repeatedly kills a writer, alternately at random times and between two of its writes. Each append must
// be whole or absent, and no acknowledged append may be lost.
func TestFileKill(t *testing.T) {
	rounds := procs.Kills(t, 30)
	rnd := procs.Rand(t)
	total, interrupted := 0, 0
	dir := t.TempDir()
	for round, batches := 0, 0; round < rounds; round++ {
		if batches > 60 { // start a new store, because checking a small store is faster
			dir, batches = t.TempDir(), 0
		}
		opts, after := "", time.Duration(rnd.Int64N(int64(15*time.Millisecond)))
		if round%2 == 0 {
			opts, after = "kill-self", time.Minute
		}
		acked := fileRunUntilKilled(t, dir, opts, rnd.Uint64(), batches, after)
		if p, err := os.ReadFile(dir + "/%undo"); err == nil && len(p) > 0 && string(p[:8]) == journalMagic {
			interrupted++
		}
		f, err := storetest.OpenDir(fileOS, dir, nil, filedir.Hooks{})
		if err != nil {
			t.Fatalf("round %d: opening the store after a kill: %v", round, err)
		}
		if batches, err = fileCheckKilled(f, acked); err != nil {
			t.Fatalf("round %d: wrong content after a kill: %v", round, err)
		}
		must.Do(t, f.Close())
		total += acked
	}
	t.Logf("%d kills, of which %d were within an append; %d acknowledged appends", rounds, interrupted, total)
	if interrupted < rounds/4 {
		t.Fatalf("only %d of %d kills were within an append, want at least a quarter", interrupted, rounds)
	}
}

// TestFileKillTagged repeatedly kills and restarts a writer. After each restart, the writer retries its unacknowledged
// operation with the same number. No operation may be applied twice.
func TestFileKillTagged(t *testing.T) {
	rounds := procs.Kills(t, 20)
	retries := must.Get(fileRunTaggedKills(t, rounds))(t)
	if retries < rounds/6 {
		t.Errorf("only %d of %d writers were killed between applying and acknowledging an operation, want at least a sixth", retries, rounds)
	}
	t.Logf("%d kills, %d retries of applied operations", rounds, retries)
}

// fileRunTaggedKills kills writers that share a session, and returns the number of retries of applied operations.
func fileRunTaggedKills(t *testing.T, rounds int) (retries int, err error) {
	rnd := procs.Rand(t)
	dir, session, batches, acked := "", uint64(0), 0, 0
	for round := range rounds {
		if dir == "" || acked > 60 {
			dir, acked = t.TempDir(), 0
			f := fileOpen(t, fileOS, dir, nil, filedir.Hooks{})
			if session, err = f.NewSession(t.Context()); err != nil {
				return retries, err
			}
			f.Close()
		}
		childOpts, after := "", time.Duration(rnd.Int64N(int64(15*time.Millisecond)))
		switch round % 3 {
		case 0:
			childOpts, after = "kill-self ", time.Minute
		case 1:
			childOpts, after = "kill-after-apply ", time.Minute
		}
		acked = fileRunUntilKilled(t, dir, childOpts+"session="+strconv.FormatUint(session, 10), rnd.Uint64(), acked, after)
		f, err := storetest.OpenDir(fileOS, dir, nil, filedir.Hooks{})
		if err != nil {
			return retries, err
		}
		if batches, err = fileCheckKilled(f, acked); err == nil {
			err = f.Close()
		}
		if err != nil {
			return retries, fmt.Errorf("round %d: %w", round, err)
		}
		retries += batches - acked // the next round retries an applied but unacknowledged batch
	}
	return retries, nil
}
