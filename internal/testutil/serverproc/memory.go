package serverproc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Memory returns the resident memory of a process in bytes: now, and at the most.
// Only Linux tells it, and CPU; elsewhere there is no /proc to read.
func Memory(pid int) (now, most int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "VmRSS":
			now = kib << 10
		case "VmHWM":
			most = kib << 10
		}
	}
	if now == 0 {
		return 0, 0, fmt.Errorf("/proc/%d/status does not tell the memory", pid)
	}
	return now, most, nil
}

// CPU returns the time for which a process has used a processor.
func CPU(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold blanks
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	const perSecond = 100 // USER_HZ, which Linux tells programs whatever the kernel's own is
	return time.Duration(ticks) * time.Second / perSecond, nil
}
