package cliutil

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/spf13/cobra"
)

// TestVersionNamesCommit checks that the version contains the commit if Go recorded it, and whether files were
// modified.
func TestVersionNamesCommit(t *testing.T) {
	settings := func(commit, modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: commit}, {Key: "vcs.modified", Value: modified}}
	}
	const commit = "0123456789abcdef0123456789abcdef01234567"
	built := " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH
	for want, info := range map[string]debug.BuildInfo{
		"p version devel":                     {},
		"p version v1.2.3":                    {Main: debug.Module{Version: "v1.2.3"}},
		"p version devel 0123456789ab":        {Main: debug.Module{Version: "(devel)"}, Settings: settings(commit, "false")},
		"p version v1.2.3 0123456789ab":       {Main: debug.Module{Version: "v1.2.3"}, Settings: settings(commit, "false")},
		"p version v1.2.3 0123456789ab+dirty": {Main: debug.Module{Version: "v1.2.3+dirty"}, Settings: settings(commit, "true")},
		"p version devel abc":                 {Settings: settings("abc", "")},
	} {
		if got := describe("p", &info); got != want+built {
			t.Errorf("describe = %q, want %q", got, want+built)
		}
	}
}

// TestBuild checks the version and the commit in a server's metrics.
func TestBuild(t *testing.T) {
	commit := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "false"}}
	for want, info := range map[string]debug.BuildInfo{
		"devel unknown":            {},
		"devel 0123456789ab":       {Main: debug.Module{Version: "v0.0.0-20300131100000-0123456789ab"}, Settings: commit},
		"devel 0123456789ab+dirty": {Main: debug.Module{Version: "(devel)"}, Settings: append(commit, debug.BuildSetting{Key: "vcs.modified", Value: "true"})},
		"devel fedcba987654":       {Main: debug.Module{Version: "v0.1.1-0.20300131100000-fedcba987654"}},
		"v1.2.3 0123456789ab":      {Main: debug.Module{Version: "v1.2.3"}, Settings: commit},
		"v1.2.3-rc.1 0123456789ab": {Main: debug.Module{Version: "v1.2.3-rc.1+dirty"}, Settings: commit},
	} {
		if version, commit := build(&info); version+" "+commit != want {
			t.Errorf("build(%+v) = %s %s, want %s", info, version, commit, want)
		}
	}
}

// TestHelpWraps checks that long descriptions of flags are wrapped, and that no word is lost.
func TestHelpWraps(t *testing.T) {
	var out strings.Builder
	env := &Env{Prefix: "P_"}
	cmd := &cobra.Command{Use: "put", Short: "Put", Run: func(*cobra.Command, []string) {}}
	words := strings.Repeat("words that are many ", 20)
	cmd.Flags().Int("first", 0, words)
	cmd.Flags().String("second", "", "`NAME` that is short")
	root := &cobra.Command{Use: "p"}
	root.AddCommand(cmd)
	root = (&Program{Env: env, Out: &out, Err: &out}).Root(root)
	root.SetArgs([]string{"put", "--help"})
	must.Do(t, root.Execute())
	for line := range strings.Lines(out.String()) {
		if len(line) > 121 {
			t.Errorf("a line of the help has %d characters: %s", len(line)-1, line)
		}
	}
	help := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{"--first int " + strings.TrimSpace(words) + " [$P_FIRST]", "--second NAME NAME that is short [$P_SECOND]", "-h, --help help for put"} {
		if !strings.Contains(help, want) {
			t.Errorf("the help lacks %q:\n%s", want, out.String())
		}
	}
}

// brokenWriter fails all writes.
type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestUnwrittenHelp checks that help and the version that cannot be written are errors, but not usage errors.
func TestUnwrittenHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"help"}, {"help", "put"}, {"put", "--help"}, {"--version"}, {}} {
		root := &cobra.Command{Use: "p"}
		root.AddCommand(&cobra.Command{Use: "put", Run: func(*cobra.Command, []string) {}})
		p := &Program{Env: &Env{Prefix: "P_"}, Out: brokenWriter{}, Err: io.Discard}
		_, err := p.Execute(t.Context(), p.Root(root), args)
		must.Fail(t, err, syscall.ENOSPC, "p %q", args)
		if IsUsage(err) || !p.Started {
			t.Errorf("p %q: error %v is a usage error", args, err)
		}
	}
}

// TestMissingFlag checks that the error for a required flag that is missing describes the flag.
func TestMissingFlag(t *testing.T) {
	cmd := &cobra.Command{Use: "back", Run: func(*cobra.Command, []string) {}}
	cmd.Flags().String("name", "", "the `NAME` of the backup")
	must.Do(t, cmd.MarkFlagRequired("name"))
	root := &cobra.Command{Use: "p"}
	root.AddCommand(cmd)
	p := &Program{Env: &Env{Prefix: "P_"}, Out: io.Discard, Err: io.Discard}
	_, err := p.Execute(t.Context(), p.Root(root), []string{"back"})
	if want := "--name NAME is missing: the NAME of the backup"; !IsUsage(err) || err.Error() != want {
		t.Errorf("error %v, want the usage error %q", err, want)
	}
}

// TestArgCounts checks that a command accepts exactly the arguments in its usage line.
func TestArgCounts(t *testing.T) {
	for use, want := range map[string]string{
		"drop [flags]":                          "0 0 ",
		"serve":                                 "0 0 ",
		"add NAME":                              "1 1 NAME",
		"copy --from URL --to URL [flags]":      "0 0 ",
		"list [flags] [--] [PATTERN]":           "0 1 ",
		"put [flags] [--] NAME FILE":            "2 2 NAME and FILE",
		"append [flags] [--] KEY [FILE]":        "1 2 KEY",
		"delete [flags] [--] NAME…":             "1 -1 NAME",
		"delete [flags] [--] [SNAPSHOT…]":       "0 -1 ",
		"restore [flags] [--] SNAPSHOT [NAME…]": "1 -1 SNAPSHOT",
		"shuffle --by FIELD [flags] [--] FILE…": "1 -1 FILE",
		"import --from A|B [flags] [--] SOURCE": "1 1 SOURCE",
	} {
		minArgs, maxArgs, missing := argCounts(use)
		if got := fmt.Sprint(minArgs, " ", maxArgs, " ", missing); got != want {
			t.Errorf("argCounts(%q) = %q, want %q", use, got, want)
		}
	}
	var out strings.Builder
	sub := &cobra.Command{Use: "drop [flags]", RunE: func(*cobra.Command, []string) error { return nil }}
	root := &cobra.Command{Use: "program"}
	root.AddCommand(sub)
	(&Program{Env: &Env{Prefix: "P_"}, Out: &out, Err: &out}).Root(root).SetArgs([]string{"drop", "it"})
	if err := root.Execute(); !IsUsage(err) || !strings.Contains(err.Error(), `takes no arguments: remove "it"`) {
		t.Errorf("Execute with an extra argument = %v, want a usage error", err)
	}
}

// TestHealthIncompleteAnswer checks the error for an answer with status 200 that ends early.
func TestHealthIncompleteAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "ready")
	}))
	defer server.Close()
	cmd := NewHealth(io.Discard, "partd-server")
	cmd.SetArgs([]string{server.URL})
	must.Fail(t, cmd.Execute(), "unexpected EOF", "health after an incomplete answer")
}

// TestWarningsAreLimited checks that the log limits and counts floods of warnings and errors. It does not limit
// messages of lower levels.
func TestWarningsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := NewLog("text", &out)
		connection := log.With("peer", 1)
		for range 5000 {
			log.Warn("flood")
			connection.Warn("flood")
		}
		log.Error("an error")
		log.Info("a word")
		if n := strings.Count(out.String(), "flood"); n != maxBurst {
			t.Errorf("%d of 10,000 warnings in a row were logged, want %d", n, maxBurst)
		}
		for _, words := range []string{"an error", "a word"} {
			if !strings.Contains(out.String(), words) {
				t.Errorf("%q was dropped", words)
			}
		}
		for range 5000 {
			log.Error("no space")
		}
		if n := strings.Count(out.String(), "no space"); n != maxBurst-1 {
			t.Errorf("%d of 5,000 errors in a row were logged, want %d", n, maxBurst-1)
		}
		out.Reset()
		time.Sleep(time.Second)
		for range 100 {
			connection.Warn("flood")
		}
		if n := strings.Count(out.String(), "flood"); n != perSecond {
			t.Errorf("%d warnings were logged a second later, want %d", n, perSecond)
		}
		if first, _, _ := strings.Cut(out.String(), "\n"); !strings.Contains(first, "warnings_left_out_before=9900") {
			t.Errorf("the first warning does not say how many were dropped: %s", first)
		}
	})
}

// TestCatchHangups checks that a SIGHUP before a server is ready does not end the process, and that the server reloads
// for it later.
func TestCatchHangups(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no SIGHUP")
	}
	start, stop := CatchHangups()
	defer stop()
	p := must.Get(os.FindProcess(os.Getpid()))(t)
	reloads := make(chan struct{})
	for range 2 {
		must.Do(t, p.Signal(syscall.SIGHUP))
		if start != nil {
			start(func() { reloads <- struct{}{} })
			start = nil
		}
		must.Receive(t, reloads, 10*time.Second, "a call of reload")
	}
}
