package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/go-partd/partd/objstore"
)

// cluster is a group of identical machines. Each runs one worker per core and, unless the job uses a bucket, a server
// with a log store.
type cluster struct {
	machines    int
	cores       float64
	network     float64 // bytes per second in each direction
	write, read float64 // bytes per second of the disk
}

// Costs per byte of rows, measured by go run -C bench ./remote --only "a job" --tasks 2 on two cores (AMD EPYC,
// 2026-11-27). CPU seconds are those of the workers and the server together.
const (
	appendCPU  = 6.6e-9 // including 0.6e-9 for generating the rows
	readCPU    = 1.8e-9
	diskWrites = 1.4 // bytes that a log store writes to disk, measured by bench/cold with 20 GB
	diskSize   = 1.3 // bytes that a log store occupies
)

// Assumptions about tasks.
const (
	taskBytes   = 1e9
	taskRestart = 60 // seconds until the replacement of a killed worker starts its first task

	partsPerReader = 8 // each worker reads this many parts, so a killed worker repeats only one of them
)

// demand is the load that one step of a job puts on each machine, in core seconds and bytes.
type demand struct{ cpu, in, out, write, read float64 }

// seconds returns the duration of a step and its slowest resource. A step uses all resources at the same time.
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

// steps returns the demands of appending and reading size bytes through servers. If remote is true, the rows come from
// and go to machines outside the cluster.
func (c cluster) steps(size float64, remote bool) (appending, reading demand) {
	share := size / float64(c.machines)
	moved := share * (1 - 1/float64(c.machines)) // the rest stays on the worker's machine
	appending = demand{cpu: appendCPU * share, in: moved, out: moved, write: diskWrites * share}
	reading = demand{cpu: readCPU * share, in: moved, out: moved, read: diskSize * share}
	if remote {
		appending.in += share
		reading.out += share
	}
	return appending, reading
}

// withKills returns how long a step takes that would take the given number of seconds without faults. Every interval
// seconds, all workers of the next machine are killed. Their tasks restart from the beginning, as docs/cluster.md says.
func (c cluster) withKills(seconds, tasks, interval float64) float64 {
	workers := c.machines * int(c.cores)
	taskSeconds := seconds * float64(workers) / tasks
	idle := make([]float64, workers) // when each worker finishes its task
	running := make([]bool, workers)
	tasksLeft, nextKill, victim := int(math.Ceil(tasks)), interval, 0
	for {
		first, last := 0, 0.0
		for i := range idle {
			if idle[i] < idle[first] || tasksLeft > 0 && running[first] && !running[i] && idle[i] <= idle[first] {
				first = i
			}
			if running[i] {
				last = max(last, idle[i])
			}
		}
		switch {
		case tasksLeft > 0 && idle[first] <= nextKill:
			tasksLeft--
			idle[first], running[first] = idle[first]+taskSeconds, true
		case tasksLeft == 0 && last <= nextKill:
			return last
		default:
			for i := victim * int(c.cores); i < (victim+1)*int(c.cores); i++ {
				if running[i] && idle[i] > nextKill {
					tasksLeft++
				}
				idle[i], running[i] = nextKill+taskRestart, false
			}
			victim, nextKill = (victim+1)%c.machines, nextKill+interval
		}
	}
}

// withDiskLosses returns the mean duration of a job that restarts after each loss of a disk. Losses are independent and
// occur every interval seconds on average.
func withDiskLosses(seconds, interval float64) float64 {
	return interval * math.Expm1(seconds/interval)
}

// throughBucket returns the duration of a job through a bucket. Its upload and its read each take as long as the slowest
// of the bucket, network, disk and CPU. CPU time is assumed to be the same as through servers.
func (c cluster) throughBucket(size float64) (float64, error) {
	n, share := c.machines*int(c.cores), size/float64(c.machines)
	j := objstore.Job{Writers: n, Readers: n, Bytes: int64(size), EntryBytes: 100, Options: objstore.Options{Memory: 4 << 30, SegmentSize: 4 << 30, Disk: math.MaxInt64}}
	p, err := j.Plan()
	upload, _ := c.seconds(demand{cpu: appendCPU * share, out: share})
	read, _ := c.seconds(demand{cpu: readCPU * share, in: share, write: share, read: share})
	return max(upload, p.Upload) + p.Commit + max(read, p.Read), err
}

// smallMachines and largeMachines have as many cores as the machines on which Daft and Exoshuffle were measured. Their
// bandwidths are assumptions, because clouds only promise "up to" 12 or 25 Gbit/s.
var (
	smallMachines = cluster{machines: 32, cores: 8, network: 10e9 / 8, write: 1e9, read: 2e9}
	largeMachines = cluster{machines: 32, cores: 16, network: 25e9 / 8, write: 2e9, read: 3e9}
)

// simulation returns the content of docs/dev/cloud-model.md.
func simulation() string {
	var b strings.Builder
	b.WriteString(`# Ten terabytes on 32 machines, computed

How long would a shuffle through servers or a bucket take on many machines? ` + "`go run -C bench ./cloudplan --model`" + ` prints this
page. It is a model, not a measurement:

- A machine has 8 cores, 10 Gbit/s, and a disk that writes 1 and reads 2 GB/s (*large*: 16, 25, 2 and 3). It runs a worker per core and a server. Each step takes as
  long as its slowest resource.
- CPU time, 6.6 s/GB to make and append rows and 1.8 to read them, is measured. A job of 2 GB on one machine took 0.92 and 1.14 times as long as modelled.
- *Killed*: every minute, the workers of one machine are killed. Their tasks of 1 GB restart a minute later. *Disk lost*: every hour, a disk is lost and the job restarts.
  A full disk fails all running tasks. A server that restarts makes them wait.

| data | machines | append s | read s | limited by | killed s | disk lost s | GB on a disk | bucket s |
|---|---|---|---|---|---|---|---|---|
`)
	row := func(label string, c cluster, size float64) {
		appending, reading := c.steps(size, false)
		appended, limit := c.seconds(appending)
		read, readLimit := c.seconds(reading)
		bucket, err := c.throughBucket(size)
		if err != nil {
			panic(err)
		}
		killed := c.withKills(appended, size/taskBytes, 60) + c.withKills(read, float64(c.machines)*c.cores*partsPerReader, 60)
		fmt.Fprintf(&b, "| %g TB | %d%s | %.0f | %.0f | %s, %s | %.0f | %.0f | %.0f | %.0f |\n", size/1e12, c.machines, label, appended, read, limit, readLimit,
			killed, withDiskLosses(appended+read, 3600), diskSize*size/float64(c.machines)/1e9, bucket)
	}
	for _, size := range []float64{1e12, 3e12, 1e13} {
		eightMachines := smallMachines
		eightMachines.machines = 8
		row("", eightMachines, size)
		row("", smallMachines, size)
	}
	row(" large", largeMachines, 1e13)
	fortyMachines := largeMachines
	fortyMachines.machines = 40
	fmt.Fprintf(&b, `
Published times include Parquet or sorting, on other machines:

- [Daft](https://github.com/Eventual-Inc/Daft/blob/3c442fb3f55b141d7fbb380530e33000dde62e3a/benchmarking/shuffle/shuffle_benchmark_report.md)'s Flight shuffle (May 2026)
  repartitions TPC-H's lineitem ("10 TB", 2.2 TiB of Parquet in S3) on 32 i8ge.2xlarge in 1,849 s on a development branch, and in 2,556 s in release 0.7.13. The model, with 10 TB from and to S3: %.0f s.
- [Exoshuffle-CloudSort](https://arxiv.org/abs/2301.03734) sorts 100 TB in S3 on 40 i4i.4xlarge in 5,378 s. The model, without sorting: %.0f s.
- [Celeborn](https://awslabs.github.io/data-on-eks/docs/benchmarks/spark-celeborn-benchmark) has only times of many queries: TPC-DS of 10 TB in 5,583 s, Spark's own shuffle in 6,533.
`, smallMachines.total(1e13, true), fortyMachines.total(1e14, true))
	return b.String()
}

// total returns the duration of a job through servers without faults.
func (c cluster) total(size float64, remote bool) float64 {
	appending, reading := c.steps(size, remote)
	appended, _ := c.seconds(appending)
	read, _ := c.seconds(reading)
	return appended + read
}
