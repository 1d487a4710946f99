package dnf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/rpm"
)

// Simulate says what an installation would do.
func (s *Session) Simulate(ctx context.Context, set description.PackageSet) (packages.Transaction, error) {
	t, err := s.inside(ctx)
	if err != nil {
		return packages.Transaction{}, fmt.Errorf("resolving packages: %w", err)
	}
	specs, err := s.specs(t, set)
	if err != nil || len(specs) == 0 {
		return packages.Transaction{}, err
	}
	if err := s.refresh(ctx, t); err != nil {
		return packages.Transaction{}, fmt.Errorf("resolving packages: %w", err)
	}
	plan, out, err := s.resolve(ctx, t, request{command: append([]string{"--assumeno", "install"}, specs...), settings: s.settingsFor(set)}, set)
	// It answers its own question, which counts as a failure.
	if err != nil && len(plan.Packages) == 0 {
		return packages.Transaction{}, fmt.Errorf("resolving packages: %w", s.explain(ctx, t, err, out, set))
	}
	if !t.plugin {
		if err := s.addSizes(t, &plan); err != nil {
			return packages.Transaction{}, fmt.Errorf("reading the lists of packages: %w", err)
		}
	}
	return s.named(plan), nil
}

// named calls repositories that have no name in the description by their addresses.
func (s *Session) named(plan packages.Transaction) packages.Transaction {
	if s.Own() {
		return plan
	}
	names := map[string]string{}
	for _, r := range s.Repositories.List {
		if r.Description.Alias == "" {
			names[r.Alias] = r.String()
		}
	}
	for i, p := range plan.Packages {
		if name, ok := names[p.Repository]; ok {
			plan.Packages[i].Repository = name
		}
	}
	return plan
}

// resolve runs dnf and returns the transaction that it tells of, even where it fails.
func (s *Session) resolve(ctx context.Context, t tool, r request, set description.PackageSet) (packages.Transaction, *packages.Output, error) {
	report := filepath.Join(s.Dir, filepath.Base(reportFile))
	if err := os.Remove(report); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return packages.Transaction{}, nil, err
	}
	var table []string
	r.line = func(line string) { table = append(table, line) }
	out, err := s.run(ctx, t, r)
	if out == nil {
		return packages.Transaction{}, nil, err
	}
	plan := parseTable(t.columns, table)
	if t.plugin {
		var readErr error
		if plan, readErr = readReport(report); readErr != nil {
			return packages.Transaction{}, out, errors.Join(err, fmt.Errorf("reading the transaction: %w", readErr))
		}
	}
	for i, p := range plan.Packages {
		plan.Packages[i].Listed = p.Listed || slices.ContainsFunc(set.Packages, func(d description.Package) bool { return d.Name == p.Name })
	}
	slices.SortFunc(plan.Packages, func(a, b packages.Package) int { return strings.Compare(a.String(), b.String()) })
	return plan, out, err
}

// readReport reads what the plugin wrote. There is no file where nothing could be resolved.
func readReport(name string) (packages.Transaction, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return packages.Transaction{}, nil
	}
	if err != nil {
		return packages.Transaction{}, err
	}
	var report struct {
		Packages []packages.Package `json:"packages"`
		Removed  int64              `json:"removed"`
	}
	if err := json.Unmarshal(data, &report); err != nil {
		return packages.Transaction{}, err
	}
	plan := packages.Transaction{Packages: report.Packages, Growth: -report.Removed}
	for i, p := range plan.Packages {
		plan.Growth += p.Installed
		if p.File != filepath.Base(p.File) {
			plan.Packages[i].File = ""
		}
	}
	return plan, nil
}

// parseTable reads the table that dnf5 and microdnf print of a transaction. Sizes are rounded there: dnf5 has those of installed packages, and microdnf those of
// the packages' files.
func parseTable(c columns, lines []string) packages.Transaction {
	var plan packages.Transaction
	coming, listed := false, false
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "Transaction Summary"):
			coming = false
		case strings.HasPrefix(line, "After this operation, "):
			plan.Growth = parseGrowth(strings.TrimPrefix(line, "After this operation, "))
		case !strings.HasPrefix(line, " ") && strings.HasSuffix(line, ":"):
			coming = slices.ContainsFunc([]string{"Installing", "Upgrading", "Downgrading", "Reinstalling"}, func(word string) bool { return strings.HasPrefix(line, word) })
			listed = line == "Installing:" && c == nameArchVersion
		case coming && strings.HasPrefix(line, " "):
			if p, ok := parseRow(c, strings.Fields(line)); ok {
				p.Listed = listed
				plan.Packages = append(plan.Packages, p)
			}
		}
	}
	return plan
}

// parseRow reads one row of the table, which is none of a package if ok is false.
func parseRow(c columns, fields []string) (p packages.Package, ok bool) {
	want := map[columns]int{nameArchVersion: 6, nevra: 4}[c]
	if len(fields) != want || fields[0] == "replacing" {
		return p, false
	}
	size := parseSize(fields[want-2], fields[want-1])
	p.Repository = fields[want-3]
	switch c {
	case nameArchVersion:
		p.Download, p.Installed = -1, size
		p.Name, p.Arch, p.Version = fields[0], fields[1], fields[2]
	case nevra:
		p.Download, p.Installed = size, -1
		text := fields[0]
		dot := strings.LastIndexByte(text, '.')
		if dot < 0 {
			return p, false
		}
		release := strings.LastIndexByte(text[:dot], '-')
		if release < 0 {
			return p, false
		}
		version := strings.LastIndexByte(text[:release], '-')
		if version < 0 {
			return p, false
		}
		p.Name, p.Version, p.Arch = text[:version], text[version+1:dot], text[dot+1:]
	}
	p.Version = strings.TrimPrefix(p.Version, "0:")
	_, plain, found := strings.Cut(p.Version, ":")
	if !found {
		plain = p.Version
	}
	p.File = p.Name + "-" + plain + "." + p.Arch + ".rpm"
	return p, p.Name != "" && p.Version != ""
}

// parseSize reads a size such as 1.2 MiB, or 1.2 MB of a thousand thousands. It is -1 if it can't.
func parseSize(digits, unit string) int64 {
	n, err := strconv.ParseFloat(digits, 64)
	factor, ok := map[string]float64{
		"B": 1, "byte": 1, "bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 1e3, "MB": 1e6, "GB": 1e9,
	}[unit]
	if err != nil || !ok || n < 0 || n > 1<<40 {
		return -1
	}
	return int64(n * factor)
}

// parseGrowth reads dnf5's "40 MiB extra will be used (install 40 MiB, remove 0 B)." or "40 MiB will be freed (...)."
func parseGrowth(text string) int64 {
	fields := strings.Fields(text)
	if len(fields) < 2 {
		return 0
	}
	n := max(0, parseSize(fields[0], fields[1]))
	if strings.Contains(text, "will be freed") {
		return -n
	}
	return n
}

// download fetches the packages of a transaction and checks them.
func (s *Session) download(ctx context.Context, t tool, command []string, c settings, set description.PackageSet) (packages.Transaction, error) {
	task := s.Progress.Start("fetching packages", 0, progress.Items)
	plan, out, err := s.resolve(ctx, t, request{command: slices.Concat(command[:1], t.flavor.download, command[1:]), settings: c}, set)
	switch {
	case err != nil && out == nil:
	case err != nil && s.Offline && len(plan.Packages) > 0:
		err = s.offline(t, plan, s.explain(ctx, t, err, out, set))
	case err != nil:
		err = s.explain(ctx, t, err, out, set)
	default:
		err = s.check(t, &plan, out)
	}
	task.Done(err)
	if err != nil {
		return packages.Transaction{}, err
	}
	if err := s.toCache(t); err != nil {
		return packages.Transaction{}, fmt.Errorf("filling the package cache %s: %w", s.Cache, err)
	}
	return plan, nil
}

// check computes the checksums of what was downloaded and compares it with what the repositories and the lock say.
func (s *Session) check(t tool, plan *packages.Transaction, out *packages.Output) error {
	files, err := s.files(t)
	if err != nil {
		return err
	}
	for i, p := range plan.Packages {
		name, ok := files[fileKey{p.Repository, p.File}]
		if !ok {
			return fmt.Errorf("the file of the package %s, %s of repository %s, is not where dnf keeps downloads", p, p.File, p.Repository)
		}
		sum, err := packages.Sum(name)
		if err != nil {
			return fmt.Errorf("reading the package %s: %w", p, err)
		}
		if strings.HasPrefix(p.Checksum, "sha256:") && p.Checksum != sum {
			return fmt.Errorf("the package %s has the checksum %s, but %s in its repository", p, sum, p.Checksum)
		}
		info, err := os.Stat(name)
		if err != nil {
			return fmt.Errorf("reading the package %s: %w", p, err)
		}
		plan.Packages[i].Checksum, plan.Packages[i].Download = sum, info.Size()
		if !t.plugin {
			header, err := rpm.ReadFile(name)
			if err != nil {
				return fmt.Errorf("reading the package %s: %w", p, err)
			}
			plan.Packages[i].Installed = header.Size
		}
	}
	if err := packages.CheckLocked(s.Locked, plan.Packages); err != nil {
		return err
	}
	// What a group lacks is no failure for dnf.
	if line := firstWith(out.Lines(), "No match for group package", "no match for group package"); line != "" {
		if s.Locked != nil {
			return fmt.Errorf("%s: %w", strings.TrimSpace(line), packages.ErrNotLocked)
		}
		s.Log.Warn("a group names a package that no repository has", "line", line)
	}
	return nil
}

// offline says which packages the cache lacks.
func (s *Session) offline(t tool, plan packages.Transaction, cause error) error {
	files, err := s.files(t)
	if err != nil {
		return err
	}
	var lacks []string
	for _, p := range plan.Packages {
		if _, ok := files[fileKey{p.Repository, p.File}]; !ok {
			lacks = append(lacks, p.String())
		}
	}
	if len(lacks) == 0 {
		return cause
	}
	return fmt.Errorf("the package cache lacks %s; build once without --offline, with the same --package-cache", strings.Join(lacks, ", "))
}
