package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

func buildPartd(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "partd")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/go-partd/partd/cmd/partd")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("building partd (run this from the root of the repository): %w", err)
	}
	return path, nil
}

func (f *flags) partdCommand(src *input, command string, args ...string) *exec.Cmd {
	allArgs := []string{
		command, "--by=" + src.keyColumn, "--memory", strconv.FormatInt(int64(f.memory), 10),
		"--threads", strconv.Itoa(f.threads), "--progress", "never", "--quiet",
	}
	if src.isText {
		allArgs = append(allArgs, "--format", "text")
	} else {
		allArgs = append(allArgs, "--format", "csv")
	}
	return exec.Command(f.partd, append(append(allArgs, args...), "--", src.path)...)
}

func partdShuffle(f *flags, src *input, outDir string) *exec.Cmd {
	return f.partdCommand(src, "shuffle", "--store", "log:"+filepath.Join(outDir, "store"))
}

func partdSplit(f *flags, src *input, outDir string) *exec.Cmd {
	return f.partdCommand(src, "split", "--dir", filepath.Join(outDir, "files"), "--tmp", outDir)
}

func partdSort(f *flags, src *input, outDir string) *exec.Cmd {
	return f.partdCommand(src, "sort", "-o", filepath.Join(outDir, "result"+src.extension()), "--tmp", outDir)
}

func partdSum(f *flags, src *input, outDir string) *exec.Cmd {
	agg := "count"
	if src.sum != "" {
		agg += ",sum(" + src.sum + ")"
	}
	return f.partdCommand(src, "group", "--agg", agg, "-o", filepath.Join(outDir, "result.csv"), "--tmp", outDir)
}

func partdValues(f *flags, src *input, outDir string) *exec.Cmd {
	return f.partdCommand(src, "group", "--agg", "list("+src.values+")", "-o", filepath.Join(outDir, "result.csv"), "--tmp", outDir)
}
