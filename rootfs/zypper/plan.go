package zypper

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/rpm"
)

// Simulate says what an installation would do.
func (s *Session) Simulate(ctx context.Context, set description.PackageSet) (packages.Transaction, error) {
	plan, err := s.simulate(ctx, set)
	if err != nil {
		return packages.Transaction{}, fmt.Errorf("resolving packages: %w", err)
	}
	return plan, nil
}

func (s *Session) simulate(ctx context.Context, set description.PackageSet) (packages.Transaction, error) {
	j := install(set)
	if len(j.specs) == 0 {
		return packages.Transaction{}, nil
	}
	p, err := s.place(ctx)
	if err != nil {
		return packages.Transaction{}, err
	}
	if p, err = s.simulated(ctx, p); err != nil {
		return packages.Transaction{}, err
	}
	if err := s.refresh(ctx, p); err != nil {
		return packages.Transaction{}, err
	}
	plan, err := s.resolve(ctx, p, j, set)
	if err != nil {
		return packages.Transaction{}, err
	}
	return plan, s.addSizes(&plan)
}

// addSizes fills in what the lists of the repositories say of the packages.
func (s *Session) addSizes(plan *packages.Transaction) error {
	wanted := map[[3]string]int{}
	for i, p := range plan.Packages {
		wanted[[3]string{p.Name, p.Version, p.Arch}] = i
	}
	return s.eachAvailable(func(alias string, a rpm.Available) {
		i, ok := wanted[[3]string{a.Name, a.EVR(), a.Arch}]
		if !ok || plan.Packages[i].Repository != "" {
			return
		}
		p := &plan.Packages[i]
		p.Repository, p.File, p.Download, p.Installed = s.repositoryName(alias), filepath.Base(a.Location), a.Download, a.Installed
		if a.ChecksumType == "sha256" {
			p.Checksum = "sha256:" + a.Checksum
		}
	})
}

// eachAvailable calls found with every package of the lists that were fetched, the best repositories first.
func (s *Session) eachAvailable(found func(alias string, a rpm.Available)) error {
	raw := filepath.Join(s.Dir, rawDir)
	entries, err := os.ReadDir(raw)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.SortStableFunc(names, func(a, b string) int { return s.priority(a) - s.priority(b) })
	for _, alias := range names {
		err := rpm.ReadIndex(filepath.Join(raw, alias), func(a rpm.Available) { found(alias, a) })
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // plain directories have none
			return fmt.Errorf("reading the list of packages of repository %s: %w", alias, err)
		}
	}
	return nil
}

// priority is that of a repository; the lowest counts most.
func (s *Session) priority(alias string) int {
	if !s.Own() {
		for _, r := range s.Repositories.List {
			if r.Alias == alias && r.Description.Priority != 0 {
				return r.Description.Priority
			}
		}
	}
	return defaultPriority
}

// resolve asks zypper what a job would do.
func (s *Session) resolve(ctx context.Context, p place, j job, set description.PackageSet) (packages.Transaction, error) {
	plan, out, err := s.ask(ctx, p, request{command: s.command(j, set, "--dry-run"), set: set, noNetwork: true})
	return plan, s.explain(ctx, err, out, set)
}

// ask runs zypper and returns the transaction that it tells of, even where it fails. The error is not explained yet.
func (s *Session) ask(ctx context.Context, p place, r request) (packages.Transaction, *packages.Output, error) {
	r.globals = append([]string{"--xmlout", "--no-refresh"}, r.globals...)
	spec, err := s.spec(ctx, p, r)
	if err != nil {
		return packages.Transaction{}, nil, err
	}
	out := s.Output("zypper", r.line)
	both := &lockedWriter{to: out}
	answer, writer := io.Pipe()
	spec.Stdout, spec.Stderr = writer, both
	var plan packages.Transaction
	parsed := make(chan error, 1)
	go func() {
		var err error
		plan, err = parseAnswer(answer, func(text string) { fmt.Fprintln(both, text) })
		_, _ = io.Copy(io.Discard, answer) // so that zypper can go on after what could not be read; the pipe has no other error
		parsed <- err
	}()
	err = success(p.run(ctx, spec))
	writer.Close()
	if parseErr := <-parsed; err == nil && parseErr != nil {
		err = fmt.Errorf("reading zypper's answer: %w", parseErr)
	}
	out.Flush()
	for i, one := range plan.Packages {
		plan.Packages[i].Listed = slices.ContainsFunc(r.set.Packages, func(d description.Package) bool { return d.Name == one.Name })
	}
	slices.SortFunc(plan.Packages, func(a, b packages.Package) int { return strings.Compare(a.String(), b.String()) })
	return plan, out, err
}

// lockedWriter lets two streams write to one.
type lockedWriter struct {
	mu sync.Mutex
	to io.Writer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}

// parseAnswer reads what "zypper --xmlout install --dry-run" says. Messages, and the problems that it asks about, go to the function.
func parseAnswer(r io.Reader, message func(text string)) (packages.Transaction, error) {
	var plan packages.Transaction
	coming := false
	decoder := xml.NewDecoder(r)
	decoder.Strict = false
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return plan, nil
		}
		if err != nil {
			return plan, err
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		switch name := start.Name.Local; {
		case name == "message":
			var text string
			if err := decoder.DecodeElement(&text, &start); err != nil {
				return plan, err
			}
			message(text)
		case name == "prompt":
			var prompt struct {
				Description string `xml:"description"`
			}
			if err := decoder.DecodeElement(&prompt, &start); err != nil {
				return plan, err
			}
			message(prompt.Description)
		case name == "install-summary":
			plan.Growth = number(attribute(start, "space-usage-diff"))
		case strings.HasPrefix(name, "to-"):
			coming = !strings.HasPrefix(name, "to-remove")
		case name == "solvable" && coming && attribute(start, "type") == "package":
			plan.Packages = append(plan.Packages, packages.Package{
				Name: attribute(start, "name"), Version: strings.TrimPrefix(attribute(start, "edition"), "0:"), Arch: attribute(start, "arch"), Download: -1, Installed: -1,
			})
		}
	}
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64) // 0 is unknown
	return n
}

// download fetches the packages that a job needs, and compares them with the lock.
func (s *Session) download(ctx context.Context, p place, j job, set description.PackageSet) (packages.Transaction, error) {
	if err := s.fromCache(packagesDir); err != nil {
		return packages.Transaction{}, fmt.Errorf("using the package cache %s: %w", s.Cache, err)
	}
	task := s.Progress.Start("fetching packages", 0, progress.Items)
	plan, err := s.fetch(ctx, p, request{command: s.command(j, set, "--download-only"), set: set, line: func(line string) {
		if strings.HasPrefix(line, "Retrieving package ") || strings.HasPrefix(line, "In cache ") {
			task.Add(1)
		}
	}})
	// Without a network, what is not there says more than how zypper failed.
	if err == nil || s.Offline {
		if checkErr := s.check(&plan); checkErr != nil {
			err = checkErr
		}
	}
	task.Done(err)
	if err != nil {
		return packages.Transaction{}, err
	}
	if err := s.toCache(packagesDir); err != nil {
		return packages.Transaction{}, fmt.Errorf("filling the package cache %s: %w", s.Cache, err)
	}
	return plan, nil
}

// fetchAttempts is how often a download is tried, with a pause that begins with firstPause and doubles.
const (
	fetchAttempts = 3
	firstPause    = time.Second
)

// fetch runs zypper to download packages. Where it would wait for half a minute after an interruption, it is started again instead: what it has
// fetched stays.
func (s *Session) fetch(ctx context.Context, p place, r request) (packages.Transaction, error) {
	line := r.line
	for attempt, pause := 1, firstPause; ; attempt, pause = attempt+1, 2*pause {
		runCtx, cancel := context.WithCancel(ctx)
		interrupted := false
		r.line = func(text string) {
			line(text)
			if strings.HasPrefix(text, "Retrying in ") {
				interrupted = true
				cancel()
			}
		}
		plan, out, err := s.ask(runCtx, p, r)
		cancel()
		if ctx.Err() != nil || !interrupted {
			return plan, s.explain(ctx, err, out, r.set)
		}
		if attempt == fetchAttempts {
			return plan, s.explain(ctx, &command.ExitError{Line: "zypper " + r.command[0], Code: -1}, out, r.set)
		}
		s.Log.Info("a download was interrupted and is tried again", "attempt", attempt+1, "of", fetchAttempts)
		select {
		case <-ctx.Done():
			return plan, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}
