// Package apt installs and removes packages with apt and dpkg: the root tree's own where it has them, and those of this machine or of a builder
// container for a tree that has nothing yet.
//
// The repositories come from the description and apt's state for them lies outside of the tree, so that the image's own sources, lists and
// cache stay as they are and nothing of the build is left behind. Secrets reach apt through a file that exists in the sandbox's memory only.
package apt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/rootfs/dpkg"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// Where things lie inside of the sandbox.
const (
	insideDir   = "/run/imgbuild/apt"      // the session's directory on the host
	insideConf  = "/run/imgbuild/apt-conf" // in memory
	trustedDir  = insideDir + "/trusted"
	standInDir  = "/run/imgbuild/bin" // comes first in the sandbox's PATH
	indexDir    = insideDir + "/index"
	statusFile  = "/var/lib/dpkg/status"
	statesFile  = "/var/lib/apt/extended_states"
	keyringsDir = "usr/share/keyrings"
)

// place is where apt works.
type place int

const (
	inside  place = iota // in the tree, with the tree's own programs
	outside              // elsewhere, for a tree that has dpkg and no apt, or an apt that is slow to run here; dpkg runs in the tree
	bare                 // elsewhere, for a tree that has nothing
)

// session is a set of repositories whose lists have been, or can be, fetched.
type session struct {
	packages.Options
	dir       string
	sources   sources
	refreshed bool
	// hasOutside says whether there is an apt outside of the tree, once that is known.
	hasOutside description.Tristate
	installed  map[string]packages.Package // by name and architecture
}

// Open prepares a session: it makes what apt reads of the repositories. The caller closes it.
func Open(ctx context.Context, opts packages.Options) (packages.Session, error) {
	dir, err := os.MkdirTemp(opts.Workdir, ".apt-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for apt: %w", err)
	}
	s := &session{Options: opts, dir: dir, installed: map[string]packages.Package{}}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close removes what the session has on the host.
func (s *session) Close() error { return os.RemoveAll(s.dir) }

// prepare fills the session's directory.
func (s *session) prepare(ctx context.Context) error {
	if err := os.Chmod(s.dir, 0o755); err != nil { // apt's downloads run as a user of their own
		return err
	}
	for _, dir := range []string{"lists/partial", "cache/archives/partial", "log", "none", "trusted", "index"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(s.dir, "status"), nil, 0o644); err != nil {
		return err
	}
	p, err := s.place(ctx)
	if err != nil {
		return err
	}
	if s.sources, err = s.findSources(ctx, p); err != nil {
		return err
	}
	if p == inside {
		return s.trustAsTree(ctx)
	}
	return nil
}

// place says where apt is to work, as the tree is now.
func (s *session) place(ctx context.Context) (place, error) {
	tree, err := s.Tree(ctx)
	if err != nil {
		return 0, err
	}
	if _, _, err := tree.Resolve("usr/bin/apt-get"); err == nil && !(s.Emulated && s.elsewhere(ctx)) {
		return inside, nil
	}
	if _, writable := dpkg.HasDatabase(tree); writable {
		return outside, nil
	}
	return bare, nil
}

// elsewhere reports whether there is an apt outside of the tree.
func (s *session) elsewhere(ctx context.Context) bool {
	if s.hasOutside == description.Unset {
		s.hasOutside = description.False
		if s.Outside(ctx, sandbox.Spec{Args: []string{"apt-get", "--version"}, NoNetwork: true}) == nil {
			s.hasOutside = description.True
		}
	}
	return s.hasOutside == description.True
}

// trustAsTree makes apt use the keyring of the tree's distribution where it does not by itself, as from Debian 13 on.
func (s *session) trustAsTree(ctx context.Context) error {
	tree, err := s.Tree(ctx)
	if err != nil {
		return err
	}
	if _, dir, err := tree.Resolve("etc/apt/trusted.gpg.d"); err == nil && dir.IsDir() && dir.Len() > 0 {
		return nil
	}
	if _, node, err := tree.Resolve("etc/apt/trusted.gpg"); err == nil && node.Size > 0 {
		return nil
	}
	for _, name := range []string{"debian-archive-keyring.pgp", "debian-archive-keyring.gpg", "ubuntu-archive-keyring.gpg"} {
		if _, node, err := tree.Resolve(keyringsDir + "/" + name); err != nil || !node.IsRegular() {
			continue
		}
		data, err := tree.ReadFile(keyringsDir+"/"+name, maxKeys)
		if err != nil {
			return fmt.Errorf("reading the root tree's keys: %w", err)
		}
		s.sources.trusted = true
		return os.WriteFile(filepath.Join(s.dir, "trusted", strings.TrimSuffix(name, filepath.Ext(name))+".gpg"), data, 0o644)
	}
	return nil
}

// maxKeys bounds a keyring of a tree from a stranger, in bytes.
const maxKeys = 16 << 20

// task is one run of apt.
type task struct {
	place place
	// title is what the progress shows, "" for nothing; steps is how many packages are unpacked and set up in it.
	title string
	steps int64
	// list is the packages that it is about, for errors; ignore those that must not be installed.
	list, ignore []description.Package
	// noNetwork cuts it off from the network; local leaves only the repositories that are directories of this machine, and bootstrap, if one is meant for that,
	// only those for the first packages.
	noNetwork, local, bootstrap bool
	// unpacker unpacks the packages in the place of dpkg; nil is none.
	unpacker *unpacker
	// out gets what apt prints, besides the log.
	out *strings.Builder
}

// spec is a run of a program that sees the session.
func (s *session) spec(t task, args ...string) sandbox.Spec {
	spec := sandbox.Spec{
		Args: args, HostNames: !t.noNetwork, NoNetwork: t.noNetwork, Log: s.Log, Redact: s.Repositories.Secrets,
		// The initial RAM disk is made once, at the end (update-initramfs(8) and the kernel's hooks obey INITRD).
		// Programs that have no locale to load start a fifth faster, and packages' scripts start thousands of them.
		Env:   []string{"INITRD=No", "LC_ALL=C"},
		Binds: append([]sandbox.Bind{{Source: s.dir, Target: insideDir}}, s.Repositories.Binds...),
		Files: append([]sandbox.File{
			{Path: insideConf + "/apt.conf", Data: []byte(s.configuration(t)), Perm: 0o644},
			{Path: insideConf + "/preferences", Data: []byte(s.preferences(t)), Perm: 0o644},
			{Path: insideConf + "/auth.conf", Data: []byte(s.sources.auth), Perm: 0o644},
			{Path: insideConf + "/sources.list.d/.keep", Perm: 0o644},
		}, s.Repositories.Files...),
	}
	only := t.bootstrap && slices.ContainsFunc(s.sources.files, func(f sourceFile) bool { return f.bootstrap })
	if t.place == outside {
		// dpkg finds the packages in the tree where apt finds them.
		for _, b := range spec.Binds {
			b.Target = packages.TargetDir + b.Target
			spec.Binds = append(spec.Binds, b)
		}
	}
	for _, f := range s.sources.files {
		if (!t.local || f.local) && (!only || f.bootstrap) {
			spec.Files = append(spec.Files, sandbox.File{Path: insideConf + "/sources.list.d/" + f.name, Data: f.data, Perm: 0o644})
		}
		if f.keys != nil {
			spec.Files = append(spec.Files, sandbox.File{Path: f.keyPath(), Data: f.keys, Perm: 0o644})
		}
	}
	if t.unpacker != nil {
		spec.Files = append(spec.Files, standIn(t.place)...)
	}
	spec.Files = append(spec.Files, standIns()...)
	return spec
}

// run runs a program where the task says.
func (s *session) run(ctx context.Context, t task, spec sandbox.Spec) error {
	if t.place == inside {
		return s.Inside(ctx, spec)
	}
	return s.Outside(ctx, spec)
}

// apt runs apt-get and shows what it does. The error is explained where its output tells.
func (s *session) apt(ctx context.Context, t task, args ...string) (err error) {
	spec := s.spec(t, append([]string{"apt-get", "-q", "-c", insideConf + "/apt.conf"}, args...)...)
	spec.Title = "apt-get " + args[0]
	steps := s.start(t)
	defer func() { steps.Done(err) }()
	out := packages.NewOutput(s.Log, "apt", s.Repositories.Secrets, func(line string) {
		if strings.HasPrefix(line, "Unpacking ") || strings.HasPrefix(line, "Setting up ") {
			steps.Add(1)
		}
	})
	spec.Stdout, spec.Stderr = out, out
	if t.out != nil {
		spec.Stdout = t.out
	}
	if t.unpacker != nil {
		t.unpacker.steps = steps
		stop := t.unpacker.serve(ctx)
		defer func() { err = errors.Join(err, stop()) }()
	}
	err = s.run(ctx, t, spec)
	out.Flush()
	if err == nil && args[0] == "update" && failedFetch(out.Lines()) {
		err = errUnread
	}
	if err == nil {
		return nil
	}
	if t.out != nil {
		_, _ = out.Write([]byte(t.out.String())) // unmet dependencies are explained on standard output
		out.Flush()
	}
	return s.explain(ctx, err, out, t)
}

// start shows a task.
func (s *session) start(t task) progress.Task {
	if t.title == "" {
		return progress.Discard.Start("", 0, progress.Items)
	}
	return s.Progress.Start(t.title, t.steps, progress.Items)
}

// failedFetch reports whether apt took a list that it could not fetch for a mere warning, as older versions do.
func failedFetch(lines []string) bool {
	return slices.ContainsFunc(lines, func(line string) bool {
		return strings.HasPrefix(line, "W: Failed to fetch") || strings.HasPrefix(line, "W: Some index files failed")
	})
}
