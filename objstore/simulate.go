package objstore

import (
	"fmt"
	"math"
	"strings"
)

// cluster is a number of identical machines. Each runs one worker per core, and a server with a log store unless the job
// uses a bucket.
type cluster struct {
	machines    int
	cores       float64
	network     float64 // bytes per second in each direction
	write, read float64 // bytes per second of the disk
	disk        float64 // bytes
}

// Costs per byte of rows, measured by go run -C bench ./remote --only "a job" on two cores. CPU seconds are those of the
// workers and the server together.
const (
	generateCPU = 0.5e-9
	appendCPU   = 2e-9 // with generating
	readCPU     = 1e-9
	written     = 1.4 // bytes that the log store writes
	stored      = 1.05
)

// Assumptions about tasks.
const (
	taskBytes   = 1e9
	taskRestart = 60 // seconds from the loss of a worker, server or machine until its successor works
)

// demand is what a step of a job demands of each machine, in core seconds and bytes.
type demand struct{ cpu, in, out, write, read float64 }

// seconds returns the time of a step, and the resource that takes longest. Resources are used at the same time.
func (c cluster) seconds(d demand) (seconds float64, limit string) {
	for _, r := range []struct {
		seconds float64
		name    string
	}{{d.cpu / c.cores, "CPU"}, {max(d.in, d.out) / c.network, "network"}, {d.write/c.write + d.read/c.read, "disk"}} {
		if r.seconds > seconds {
			seconds, limit = r.seconds, r.name
		}
	}
	return seconds, limit
}

// steps returns the demands of appending and reading size bytes through servers. If remote, the rows come from and go to
// machines outside of the cluster.
func (c cluster) steps(size float64, remote bool) (appending, reading demand) {
	share := size / float64(c.machines)
	moved := share * (1 - 1/float64(c.machines)) // the rest is for the worker's own machine
	appending = demand{cpu: appendCPU * share, in: moved, out: moved, write: written * share}
	reading = demand{cpu: readCPU * share, in: moved, out: moved, read: stored * share}
	if remote {
		appending.in += share
		reading.out += share
	}
	return appending, reading
}

// withKills returns how long tasks take that would take seconds together, if the workers of one machine after another are
// killed, one every interval seconds. Their tasks start again from the beginning, as docs/cluster.md says.
func (c cluster) withKills(seconds, tasks, interval float64) float64 {
	workers := c.machines * int(c.cores)
	taskSeconds := seconds * float64(workers) / tasks
	idle := make([]float64, workers) // when each worker has finished its task
	running := make([]bool, workers)
	left, kill, victim := int(math.Ceil(tasks)), interval, 0
	for {
		first, last := 0, 0.0
		for i := range idle {
			if idle[i] < idle[first] || left > 0 && running[first] && !running[i] && idle[i] <= idle[first] {
				first = i
			}
			if running[i] {
				last = max(last, idle[i])
			}
		}
		switch {
		case left > 0 && idle[first] <= kill:
			left--
			idle[first], running[first] = idle[first]+taskSeconds, true
		case left == 0 && last <= kill:
			return last
		default:
			for i := victim * int(c.cores); i < (victim+1)*int(c.cores); i++ {
				if running[i] && idle[i] > kill {
					left++
				}
				idle[i], running[i] = kill+taskRestart, false
			}
			victim, kill = (victim+1)%c.machines, kill+interval
		}
	}
}

// untilUndisturbed returns the mean time of a job that starts again after each loss of a disk, if disks are lost
// independently, one every interval seconds on average.
func untilUndisturbed(seconds, interval float64) float64 {
	return interval * math.Expm1(seconds/interval)
}

// throughBucket returns the time of a job in a bucket. It is the longest of the plan's, the network's and the CPU's, which
// is assumed to be that of servers.
func (c cluster) throughBucket(size float64) (upload, read float64, err error) {
	n := c.machines * int(c.cores)
	j := Job{Writers: n, Readers: n, Bytes: int64(size), EntryBytes: 100, Options: Options{Memory: 4 << 30, SegmentSize: 4 << 30, Disk: math.MaxInt64}}
	p, err := j.Plan()
	appending, reading := c.steps(size, false)
	upload, _ = c.seconds(demand{cpu: appending.cpu, out: size / float64(c.machines)})
	share := size / float64(c.machines)
	read, _ = c.seconds(demand{cpu: reading.cpu, in: share, write: share, read: share})
	return max(upload, p.Upload) + p.Commit, max(read, p.Read), err
}

// simulated returns the table of docs/cloud-plan.md for jobs of several sizes.
func simulated() string {
	var b strings.Builder
	b.WriteString("| data | machines | append s | read s | limited by | workers killed | server killed | disk lost | GB on a disk | bucket | bucket, machine lost |\n" + strings.Repeat("|---", 11) + "|\n")
	small := cluster{cores: 8, network: 10e9 / 8, write: 1e9, read: 2e9, disk: 1.875e12}
	large := cluster{machines: 32, cores: 16, network: 25e9 / 8, write: 2e9, read: 3e9, disk: 3.75e12}
	row := func(label string, c cluster, size float64) {
		appending, reading := c.steps(size, false)
		map1, limit1 := c.seconds(appending)
		read1, limit2 := c.seconds(reading)
		tasks, readers := size/taskBytes, float64(c.machines)*c.cores
		upload, download, err := c.throughBucket(size)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&b, "| %g TB | %d%s | %.0f | %.0f | %s, %s | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f |\n", size/1e12, c.machines, label, map1, read1, limit1, limit2,
			c.withKills(map1, tasks, 60)+c.withKills(read1, readers*8, 60), (map1+read1)/(1-taskRestart/600.), untilUndisturbed(map1+read1, 3600),
			stored*size/float64(c.machines)/1e9, upload+download, c.withKills(upload, tasks, 600)+c.withKills(download, readers*8, 600))
	}
	for _, size := range []float64{1e12, 3e12, 1e13} {
		for _, small.machines = range []int{8, 32} {
			row("", small, size)
		}
	}
	row(" larger", large, 1e13)
	return b.String()
}
