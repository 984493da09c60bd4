package vfs

import (
	"fmt"
	"os"
	"strings"
)

// processStart returns what no other process with the number has: when it began, and the
// boot of the machine. "" is of one that there is not.
func processStart(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	boot, bootErr := os.ReadFile("/proc/sys/kernel/random/boot_id")
	const start = 19 // of the fields behind the name, which is in brackets and may hold any
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if err != nil || bootErr != nil || len(fields) <= start {
		return ""
	}
	return fields[start] + " " + strings.TrimSpace(string(boot))
}
