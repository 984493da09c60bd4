package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// buildPartd builds the partd command from this source tree.
func buildPartd(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "partd")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/go-partd/partd/cmd/partd")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("building partd (run this from the root of the repository): %w", err)
	}
	return path, nil
}

// partdCommand returns a partd command on the input.
func (f *flags) partdCommand(in *input, command string, args ...string) *exec.Cmd {
	all := []string{
		command, "--by=" + in.by, "--memory", strconv.FormatInt(int64(f.memory), 10),
		"--threads", strconv.Itoa(f.threads), "--progress", "never", "--quiet",
	}
	if in.text {
		all = append(all, "--format", "text")
	} else {
		all = append(all, "--format", "csv")
	}
	return exec.Command(f.partd, append(append(all, args...), "--", in.path)...)
}

func partdShuffle(f *flags, in *input, out string) *exec.Cmd {
	return f.partdCommand(in, "shuffle", "--store", "log:"+filepath.Join(out, "store"))
}

func partdSplit(f *flags, in *input, out string) *exec.Cmd {
	return f.partdCommand(in, "split", "--dir", filepath.Join(out, "files"), "--tmp", out)
}

func partdSort(f *flags, in *input, out string) *exec.Cmd {
	return f.partdCommand(in, "sort", "-o", filepath.Join(out, "result"+in.extension()), "--tmp", out)
}

func partdSum(f *flags, in *input, out string) *exec.Cmd {
	agg := "count"
	if in.sum != "" {
		agg += ",sum(" + in.sum + ")"
	}
	return f.partdCommand(in, "group", "--agg", agg, "-o", filepath.Join(out, "result.csv"), "--tmp", out)
}

func partdValues(f *flags, in *input, out string) *exec.Cmd {
	return f.partdCommand(in, "group", "--agg", "list("+in.values+")", "-o", filepath.Join(out, "result.csv"), "--tmp", out)
}
