package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestStatWatch checks that partd stat --watch shows the content and the growth of a store every second, for a server
// and for files. Ctrl-C stops it like any other command.
func TestStatWatch(t *testing.T) {
	t.Parallel()
	ctx, served := t.Context(), partd.NewDict()
	url, _ := serve(t, served)
	writer := must.Get(openStore(ctx, url, nil))(t)
	defer func() { _ = partd.Close(ctx, writer) }()
	grow := func() {
		must.Do(t, writer.Append(ctx, partd.Entry{Key: "fruit", Value: make([]byte, 1000)}, partd.Entry{Key: "nut", Value: []byte("n")}))
	}
	grow()
	file := "file:" + filepath.Join(t.TempDir(), "store")
	fillStore(t, file, partd.Entry{Key: "a", Value: []byte("1111")})
	watch := func(hasEnough func(line string) bool, args ...string) {
		t.Helper()
		cmd, stderr := programErrs(t, append([]string{"stat", "--watch", "--top", "1"}, args...)...)
		out := must.Get(cmd.StdoutPipe())(t)
		must.Do(t, cmd.Start())
		watchdog := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		defer watchdog.Stop()
		scanner := bufio.NewScanner(out)
		for scanner.Scan() && !hasEnough(scanner.Text()) {
		}
		interrupt(t, os.Interrupt, "stat --watch", cmd, stderr)
	}
	type record struct {
		Time                 time.Time
		Keys, Bytes, Changes int64
		BytesPerSecond       float64 `json:"bytes_per_second"`
		ChangesPerSecond     float64 `json:"changes_per_second"`
		Largest              []struct{ Key string }
	}
	var previous record
	watch(func(line string) bool {
		var r record
		must.Do(t, json.Unmarshal([]byte(line), &r))
		if r.Keys != 2 || r.Bytes != 1001*r.Changes || len(r.Largest) != 1 || r.Largest[0].Key != "fruit" {
			t.Errorf("a line has the wrong content: %s", line)
		}
		interval, rate := r.Time.Sub(previous.Time), 0.0 // the first line has no rates
		if previous.Keys > 0 {
			rate = float64(r.Changes-previous.Changes) / interval.Seconds()
		}
		if math.Abs(r.ChangesPerSecond-rate) > 0.001 || math.Abs(r.BytesPerSecond-1001*rate) > 1 || interval < watchInterval/2 {
			t.Errorf("%v after the line before it, a line has the wrong rates, want %.3f changes per second: %s", interval, rate, line)
		}
		grow()
		previous = r
		return r.Changes >= 3 // on a busy machine, several lines may show the same content
	}, "--store", url, "--json")
	pattern := regexp.MustCompile(`^\d{4}-\d\d-\d\dT[\d:]+Z  1 keys  4 bytes  \+0\.000 MB/s$`)
	lines := 0
	watch(func(line string) bool {
		if !pattern.MatchString(line) {
			t.Errorf("got the line %q, want a match of %v", line, pattern)
		}
		lines++
		return lines == 2
	}, "--store", file)
}

// TestStatWatchOnTerminal checks that on a terminal, stat --watch redraws a page.
func TestStatWatchOnTerminal(t *testing.T) {
	var out bytes.Buffer
	w := watch{app: &app{out: &out}, url: "log:x", isTerminal: true}
	r := watchRecord{Changes: 7, BytesPerSecond: 1.5e6, ChangesPerSecond: 300}
	r.statRecord = statRecord{Keys: 1, Bytes: 5, largestKeys: []partd.KeyInfo{{Key: "k", Size: 5}}}
	must.Do(t, w.show(r))
	for _, words := range []string{"\x1b[H\x1b[2J", "store  log:x\n", "keys   1\n", "largest keys\n  k  5  ###", "+1.500 MB/s  300 changes/s\n"} {
		if !strings.Contains(out.String(), words) {
			t.Errorf("the page %q does not contain %q", out.String(), words)
		}
	}
}
