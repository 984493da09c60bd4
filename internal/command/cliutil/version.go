package cliutil

import (
	"cmp"
	"runtime"
	"runtime/debug"
	"strings"
)

// Build returns the version of the program, which is "devel" unless a release was built, and the commit that it was
// built from, which is "unknown" if Go did not record one. A server shows both as the labels of a metric.
func Build() (version, commit string) { return build(buildInfo()) }

func build(info *debug.BuildInfo) (version, commit string) {
	version, _, _ = strings.Cut(info.Main.Version, "+")
	// Go makes versions such as v0.0.0-20300131100000-0123456789ab for commits without a release.
	if version == "" || version == "(devel)" || strings.HasPrefix(version, "v0.0.0-") {
		version = "devel"
	}
	return version, cmp.Or(commitOf(info), "unknown")
}

func version(program string) string { return describe(program, buildInfo()) }

func describe(program string, info *debug.BuildInfo) string {
	words := []string{program, "version", cmp.Or(info.Main.Version, "(devel)")}
	if commit := commitOf(info); commit != "" {
		words = append(words, commit)
	}
	return strings.Join(append(words, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH), " ")
}

func buildInfo() *debug.BuildInfo {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info
	}
	return new(debug.BuildInfo)
}

// commitOf returns the first digits of the commit, with "+dirty" if files were modified, or "".
func commitOf(info *debug.BuildInfo) string {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	commit := settings["vcs.revision"]
	commit = commit[:min(12, len(commit))]
	if commit != "" && settings["vcs.modified"] == "true" {
		commit += "+dirty"
	}
	return commit
}
