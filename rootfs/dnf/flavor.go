package dnf

import (
	"path"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// flavor is one program of the family, as data: what its command line differs in. In options, CONFIG, REPOS, PLUGINS, NONE, CACHE and LOG stand for
// the session's files, and TARGET for the root tree.
type flavor struct {
	name     string   // as a description names it
	programs []string // what the program may be called, the most certain one first
	options  []string // on each command line
	// repositories are options for the repositories of a description, in the place of the root tree's own.
	repositories []string
	own          []string // and options for the root tree's own, whose lists are refreshed once
	outside      []string // options for a root tree that is not the root directory
	arch         string   // option for another architecture than that of the machine, "" if it can't
	download     []string // options, behind the command, for a transaction that stops after its downloads
	groups       bool     // it knows groups
	plugin       bool     // it runs the plugin that tells of the transaction; otherwise its table is read
	columns      columns
}

// columns says how a row of the table of a transaction looks.
type columns int

const (
	nameArchVersion columns = iota // NAME ARCH [EPOCH:]VERSION-RELEASE REPOSITORY SIZE UNIT
	nevra                          // NAME-[EPOCH:]VERSION-RELEASE.ARCH REPOSITORY SIZE UNIT
)

// flavors are the family. The options of dnf4 are in dnf(8) and dnf.conf(5), those of dnf5 in dnf5(8), dnf5.conf(5) and dnf5-installroot(7), and those of microdnf,
// from version 3.8, in microdnf(8).
func flavors() []flavor {
	return []flavor{
		{
			name: "dnf4", programs: []string{"dnf-3", "dnf4", "dnf"},
			options:      []string{"--config=CONFIG", "--setopt=cachedir=CACHE", "--setopt=logdir=LOG", "--setopt=pluginpath=PLUGINS", "--setopt=pluginconfpath=NONE"},
			repositories: []string{"--setopt=reposdir=REPOS", "--setopt=varsdir=NONE"},
			own:          []string{"--setopt=*.metadata_expire=-1"},
			outside:      []string{"--installroot=TARGET"},
			arch:         "--forcearch=",
			download:     []string{"--downloadonly"},
			groups:       true, plugin: true,
		},
		{
			name: "dnf5", programs: []string{"dnf5"},
			options:      []string{"--config=CONFIG", "--setopt=cachedir=CACHE", "--setopt=system_cachedir=CACHE", "--setopt=logdir=LOG", "--no-plugins"},
			repositories: []string{"--setopt=reposdir=REPOS", "--setopt=varsdir=NONE"},
			own:          []string{"--setopt=*.metadata_expire=-1"},
			outside:      []string{"--installroot=TARGET"},
			arch:         "--forcearch=",
			download:     []string{"--downloadonly"},
			groups:       true, columns: nameArchVersion,
		},
		{
			name: "microdnf", programs: []string{"microdnf"},
			options:      []string{"--config=CONFIG", "--setopt=cachedir=CACHE", "--noplugins"},
			repositories: []string{"--setopt=reposdir=REPOS", "--setopt=varsdir=NONE"},
			outside:      []string{"--installroot=TARGET"},
			download:     []string{"--setopt=tsflags=test"},
			columns:      nevra,
		},
	}
}

// family returns the flavors with the named one first: any of them can do another one's work from outside, where it is not to be had.
func family(name string) []flavor {
	var first, others []flavor
	for _, f := range flavors() {
		if f.name == name {
			first = append(first, f)
		} else {
			others = append(others, f)
		}
	}
	return append(first, others...)
}

// tool is a program of the family in its place.
type tool struct {
	flavor
	program string
	outside bool   // it runs outside, and the root tree is at packages.TargetDir
	macros  string // rpm's
}

// toolOf finds the program in a root tree, the named flavor before others. It is not ok if the tree has none.
func toolOf(tree *layers.Tree, name string) (t tool, ok bool) {
	for _, f := range family(name) {
		for _, program := range f.programs {
			target, node, err := tree.Resolve("usr/bin/" + program)
			if err != nil || !node.IsRegular() {
				continue
			}
			// In newer distributions dnf and microdnf are links to dnf5.
			if path.Base(target) == "dnf5" {
				f = family("dnf5")[0]
			}
			return tool{flavor: f, program: program}, true
		}
	}
	return tool{}, false
}

// arguments is a command line.
func (t tool) arguments(p place, command ...string) []string {
	options := append([]string(nil), t.options...)
	if p.own {
		options = append(options, t.flavor.own...)
	} else {
		options = append(options, t.flavor.repositories...)
	}
	if t.outside {
		options = append(options, t.flavor.outside...)
	}
	if p.arch != "" {
		options = append(options, t.arch+p.arch)
	}
	if p.release != "" {
		options = append(options, "--releasever="+p.release)
	}
	words := strings.NewReplacer(
		"CONFIG", configFile, "REPOS", reposDir, "PLUGINS", pluginDir, "NONE", noneDir, "CACHE", cacheDir(t.name), "LOG", logDir, "TARGET", targetDir,
	)
	args := []string{t.program}
	for _, option := range options {
		args = append(args, words.Replace(option))
	}
	return append(args, command...)
}

// place is what command lines depend on besides the program.
type place struct {
	own     bool   // the root tree's own repositories
	arch    string // another architecture than the machine's, or ""
	release string // the distribution's, or ""
}
