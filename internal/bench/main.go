// Command bench measures imgbuild against the tools one would use instead, side by side in one run, in CPU seconds, wall time and
// peak memory. `make bench` runs it.
//
// The competitors of one job take turns, so that what else the machine does hits them alike; of several rounds the one with the least CPU time is
// shown. Everything is written below one directory, in memory where there is enough, so that the disk's moods are not measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// contender is one way to do a job: shell commands with the files of its preparation in place.
type contender struct {
	name    string
	prepare string // not measured
	run     string // measured
	clean   string // not measured
	result  string // pattern of the files that it makes, of which the size is shown; $B is the work directory
	once    bool   // it takes so long that it runs in the first round alone
}

// job is a piece of work that several contenders do.
type job struct {
	name       string
	prepare    string // once, before all contenders
	contenders []contender
	clean      string
}

// figure is what one run cost.
type figure struct {
	cpu, wall time.Duration
	memory    int64 // bytes, of the largest process
	result    int64 // bytes; 0 where nothing is measured
	err       error // why there are no figures
}

type bench struct {
	dir      string // for everything that is made
	rounds   int
	markdown bool
	verbose  bool
	env      []string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{}
	only := flag.String("job", "", "run only jobs whose name holds this text")
	flag.IntVar(&b.rounds, "rounds", 3, "how often each contender runs")
	flag.BoolVar(&b.markdown, "markdown", false, "print a Markdown table")
	flag.BoolVar(&b.verbose, "v", false, "show what the commands print")
	flag.StringVar(&b.dir, "dir", "", "where to work (default: a new directory in /dev/shm if it has 8 GiB, else below build)")
	flag.Parse()
	if err := b.main(ctx, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) main(ctx context.Context, only string) error {
	if os.Getuid() != 0 {
		return errors.New("the tools compared with need root; run it as root")
	}
	if err := b.setUp(ctx); err != nil {
		return err
	}
	defer b.tearDown()
	stop, err := b.serveMirror()
	if err != nil {
		return err
	}
	defer stop()
	for _, j := range jobs() {
		if !strings.Contains(j.name, only) {
			continue
		}
		if err := b.runJob(ctx, j); err != nil {
			return fmt.Errorf("%s: %w", j.name, err)
		}
	}
	return nil
}

// setUp makes the work directory and the root tree, which is kept for later runs.
func (b *bench) setUp(ctx context.Context) error {
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	if b.dir == "" {
		parent := filepath.Join(here, "build")
		var st syscall.Statfs_t
		if syscall.Statfs("/dev/shm", &st) == nil && int64(st.Bavail)*st.Bsize > 8<<30 {
			parent = "/dev/shm"
		}
		// Below build, the dot keeps Go's tools out of it.
		if b.dir, err = os.MkdirTemp(parent, ".imgbuild-bench-"); err != nil {
			return err
		}
	}
	b.env = append(os.Environ(), "B="+b.dir, "IMGBUILD="+filepath.Join(here, "imgbuild"), "CACHE="+filepath.Join(here, "build", "bench"),
		"IMGBUILD_STORE="+b.dir+"/store", "PODMAN=podman --root "+b.dir+"/podman --runroot "+b.dir+"/podman-run --cgroup-manager cgroupfs",
		"BUILDAH=buildah --root "+b.dir+"/buildah --runroot "+b.dir+"/buildah-run", "STORAGE_DRIVER=overlay", "TMPDIR="+b.dir,
		"LIBGUESTFS_BACKEND=direct", "LIBGUESTFS_BACKEND_SETTINGS=force_tcg", // /dev/kvm may be there and hang
		"GOFLAGS=-mod=mod")
	return b.shell(ctx, setUpScript)
}

func (b *bench) tearDown() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := b.shell(ctx, tearDownScript); err != nil {
		fmt.Fprintln(os.Stderr, "bench: cleaning up:", err)
	}
	if err := os.RemoveAll(b.dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench: cleaning up:", err)
	}
}

func (b *bench) runJob(ctx context.Context, j job) error {
	if err := b.shell(ctx, j.prepare); err != nil {
		return fmt.Errorf("preparing: %w", err)
	}
	best := make([]figure, len(j.contenders))
	for round := range b.rounds {
		for i, c := range j.contenders {
			if c.once && round > 0 {
				continue
			}
			if err := b.shell(ctx, c.prepare); err != nil {
				return fmt.Errorf("preparing %s: %w", c.name, err)
			}
			f := b.measure(ctx, c.run)
			if f.err != nil && (i == 0 || ctx.Err() != nil) { // without ours there is nothing to compare with
				return fmt.Errorf("%s: %w", c.name, f.err)
			}
			f.result = b.size(c.result)
			if round == 0 || f.err == nil && f.cpu < best[i].cpu {
				best[i] = f
			}
			if err := b.shell(ctx, c.clean); err != nil {
				return fmt.Errorf("cleaning up after %s: %w", c.name, err)
			}
		}
	}
	b.show(j, best)
	return b.shell(ctx, j.clean)
}

// size returns the size of all files that a pattern matches, in bytes.
func (b *bench) size(pattern string) int64 {
	names, err := filepath.Glob(strings.ReplaceAll(pattern, "$B", b.dir))
	if err != nil {
		return 0
	}
	sum := int64(0)
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
	}
	return sum
}

func (b *bench) show(j job, best []figure) {
	ours, sizes := best[0], best[0].result > 0
	columns := []string{"how", "CPU s", "wall s", "memory MB", "CPU, times ours", "wall, times ours"}
	if sizes {
		columns = append(columns, "result MB")
	}
	rows := [][]string{columns}
	for i, f := range best {
		name := j.contenders[i].name
		if f.err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s did not run: %v\n", name, f.err)
			continue
		}
		row := []string{
			name, fmt.Sprintf("%.2f", f.cpu.Seconds()), fmt.Sprintf("%.2f", f.wall.Seconds()), fmt.Sprintf("%.0f", float64(f.memory)/1e6),
			fmt.Sprintf("%.1f", f.cpu.Seconds()/ours.cpu.Seconds()), fmt.Sprintf("%.1f", f.wall.Seconds()/ours.wall.Seconds()),
		}
		if sizes {
			row = append(row, fmt.Sprintf("%.0f", float64(f.result)/1e6))
		}
		rows = append(rows, row)
	}
	if b.markdown {
		showMarkdown(j.name, rows)
		return
	}
	fmt.Printf("\n%s\n", j.name)
	for _, row := range rows {
		fmt.Printf("  %-46s", row[0])
		for _, cell := range row[1:] {
			fmt.Printf(" %16s", cell)
		}
		fmt.Println()
	}
}

func showMarkdown(title string, rows [][]string) {
	fmt.Printf("\n### %s\n\n", title)
	for i, row := range rows {
		fmt.Printf("| %s |\n", strings.Join(strings.Split(strings.ReplaceAll(strings.Join(row, "\x00"), "|", `\|`), "\x00"), " | "))
		if i == 0 {
			fmt.Println("|" + strings.Repeat(" --- |", len(row)))
		}
	}
}

// command is a shell that stops at the first failure, also inside a pipe.
func (b *bench) command(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -eu -o pipefail\n"+script)
	cmd.Env = b.env
	if b.verbose {
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	}
	return cmd
}

func (b *bench) shell(ctx context.Context, script string) error {
	if script == "" {
		return nil
	}
	cmd := b.command(ctx, script)
	if b.verbose {
		return cmd.Run()
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// measure runs a script and counts what its processes cost, those that they waited for included.
func (b *bench) measure(ctx context.Context, script string) figure {
	cmd := b.command(ctx, script)
	var said strings.Builder
	if !b.verbose {
		cmd.Stdout, cmd.Stderr = &said, &said
	}
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return figure{err: fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))}
	}
	f := figure{wall: time.Since(start), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		f.memory = usage.Maxrss * 1024
	}
	return f
}
