package cliutil

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// The commit is told where Go noted one, and that the files were changed since.
func TestVersionTellsCommit(t *testing.T) {
	settings := func(commit, modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: commit}, {Key: "vcs.modified", Value: modified}}
	}
	const commit = "0123456789abcdef0123456789abcdef01234567"
	built := " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH
	for want, info := range map[string]debug.BuildInfo{
		"p version (devel)":                         {},
		"p version v1.2.3":                          {Main: debug.Module{Version: "v1.2.3"}},
		"p version (devel) 0123456789ab":            {Main: debug.Module{Version: "(devel)"}, Settings: settings(commit, "false")},
		"p version v1.2.3 0123456789ab":             {Main: debug.Module{Version: "v1.2.3"}, Settings: settings(commit, "false")},
		"p version v1.2.3+dirty 0123456789ab+dirty": {Main: debug.Module{Version: "v1.2.3+dirty"}, Settings: settings(commit, "true")},
		"p version (devel) abc":                     {Settings: settings("abc", "")},
	} {
		if got := describe("p", &info); got != want+built {
			t.Errorf("%q, want %q", got, want+built)
		}
	}
}
