package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

var failedPytest = regexp.MustCompile(`(?m)^(?:FAILED|ERROR) \S+::(\w+)`)

// runPytest runs tests of a Python file. packages is the directory that contains the package partd_go.
func runPytest(file, names, packages string, limit time.Duration) (output string, err error) {
	peers := os.Getenv("PARTD_PEERS")
	if peers == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		peers = filepath.Join(cache, "partd-peers")
	}
	args := []string{"-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", "-p", "no:asyncio"}
	for name := range strings.SplitSeq(names, "|") {
		args = append(args, file+"::"+name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(peers, "pytables", "bin", "python"), args...)
	cmd.WaitDelay = time.Second
	path := packages + string(os.PathListSeparator) + filepath.Join(filepath.Dir(file), "..", "tables")
	cmd.Env = append(os.Environ(), "PYTHONPATH="+path, "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil { // a test that takes too long has found its mutant
		first, _, _ := strings.Cut(names, "|")
		out = append(out, "\nFAILED "+file+"::"+first...)
	}
	return string(out), err
}

// runPython runs the tests of m with a copy of the package partd_go in which the file at path has the given content.
func (m *mutant) runPython(root, path, temp string, content []byte) (output string, err error) {
	packages := filepath.Join(root, "python")
	if err := os.CopyFS(filepath.Join(temp, "partd_go"), os.DirFS(filepath.Join(packages, "partd_go"))); err != nil {
		return "", err
	}
	relative, err := filepath.Rel(packages, path)
	if err == nil {
		err = os.WriteFile(filepath.Join(temp, relative), content, 0o666)
	}
	if err != nil {
		return "", err
	}
	file, names, _ := strings.Cut(m.test, " ")
	return runPytest(filepath.Join(root, file), names, temp, *limit)
}
