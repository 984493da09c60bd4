package cliutil

import (
	"cmp"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
)

// release is the version of a program that was built from a release's source distribution for
// Python; the linker sets it. In other programs it is "", and their version is that of the main
// module, which Go records.
var release string

// pseudoVersion matches the suffix of the versions that Go makes for commits without a release, such
// as v0.1.1-0.20300131100000-0123456789ab.
var pseudoVersion = regexp.MustCompile(`[-.]\d{14}-([0-9a-f]{12})$`)

// Build returns the program's version ("devel" unless a release was built) and the commit from which
// it was built ("unknown" if Go recorded none). All programs and the servers' metrics show this
// version.
func Build() (version, commit string) { return build(buildInfo()) }

func build(info *debug.BuildInfo) (version, commit string) {
	version, _, _ = strings.Cut(cmp.Or(release, info.Main.Version), "+")
	commit = commitOf(info)
	if m := pseudoVersion.FindStringSubmatch(version); m != nil {
		version, commit = "", cmp.Or(commit, m[1])
	}
	return cmp.Or(strings.TrimPrefix(version, "(devel)"), "devel"), cmp.Or(commit, "unknown")
}

func version(program string) string { return describe(program, buildInfo()) }

func describe(program string, info *debug.BuildInfo) string {
	version, commit := build(info)
	words := []string{program, "version", version}
	if commit != "unknown" {
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
