package dnf

import (
	"context"
	"fmt"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// Where a session's files lie in a sandbox. What has secrets, or is made anew for each run, exists in the sandbox's memory only.
const (
	targetDir  = packages.TargetDir
	sessionDir = "/run/imgbuild/dnf" // the session's directory on this machine
	logDir     = sessionDir + "/log"
	noneDir    = sessionDir + "/none"  // is empty
	indexDir   = sessionDir + "/index" // repositories that have no index of their own
	reportFile = sessionDir + "/transaction.json"

	memoryDir  = "/run/imgbuild/dnf-settings"
	configFile = memoryDir + "/dnf.conf"
	reposDir   = memoryDir + "/repos"
	pluginDir  = memoryDir + "/plugins"
)

func cacheDir(flavor string) string { return sessionDir + "/cache/" + flavor }

// plugin is a plugin of dnf4 (dnf's API reference, Plugin Interface). It writes what a resolved transaction brings, which is printed for people only. At the end
// it takes out of dnf's history, a SQLite database, what is different in each build: the time, and the options of the command line.
const plugin = `import atexit
import json
import os

import dnf
import dnf.transaction
import libdnf.transaction


class Transaction(dnf.Plugin):
    name = "imgbuild"

    def resolved(self):
        packages = []
        removed = 0
        for item in self.base.transaction or []:
            pkg = item.pkg
            if item.action in dnf.transaction.BACKWARD_ACTIONS:
                removed += pkg.installsize
                continue
            if item.action not in dnf.transaction.FORWARD_ACTIONS:
                continue
            kind, checksum = pkg.returnIdSum()
            packages.append({
                "name": pkg.name, "version": pkg.evr, "arch": pkg.arch, "repository": pkg.repoid,
                "file": os.path.basename(pkg.location or ""), "checksum": "%s:%s" % (kind, checksum),
                "download": pkg.downloadsize, "installed": pkg.installsize,
                "listed": item.reason == libdnf.transaction.TransactionItemReason_USER,
            })
        with open("` + reportFile + `", "w") as out:
            json.dump({"packages": packages, "removed": removed}, out)

    def transaction(self):
        atexit.register(settle, os.path.join(self.base.conf.persistdir, "history.sqlite"))


def settle(name):
    import sqlite3
    database = sqlite3.connect(name, isolation_level=None)
    for number, line in database.execute("select id, cmdline from trans").fetchall():
        words = [word for word in line.split(" ") if not word.startswith("-")]
        database.execute("update trans set cmdline = ? where id = ?", (" ".join(words), number))
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch:
        database.execute("update trans set dt_begin = min(dt_begin, ?), dt_end = min(dt_end, ?)", (int(epoch), int(epoch)))
    database.execute("vacuum")
    database.execute("pragma wal_checkpoint(truncate)")
    database.close()
`

// settings are what the configuration of one run says.
type settings struct {
	rpm     description.RPMSettings
	weak    bool     // recommended packages too
	exclude []string // packages that must not come
	only    []string // if not nil, the only ones that may come
}

// configuration is dnf.conf(5), for all flavors.
func (c settings) configuration() []byte {
	lines := []string{
		"[main]", "assumeyes=1", "best=1", "obsoletes=1", "keepcache=1", "clean_requirements_on_remove=1", "skip_if_unavailable=0", "metadata_expire=-1", "retries=3", "timeout=60", "deltarpm=0",
		"color=never", "protected_packages=", "protect_running_kernel=0", "max_parallel_downloads=5", "install_weak_deps=" + number(c.weak), "gpgcheck=" + number(c.rpm.CheckSignatures),
	}
	if c.rpm.ExcludeDocs {
		lines = append(lines, "tsflags=nodocs")
	}
	if len(c.exclude) > 0 {
		lines = append(lines, "excludepkgs="+strings.Join(c.exclude, ","))
	}
	if c.only != nil {
		// An empty list would mean that all may come.
		lines = append(lines, "includepkgs="+strings.Join(append([]string{"imgbuild-nothing-else"}, c.only...), ","))
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

func number(yes bool) string {
	if yes {
		return "1"
	}
	return "0"
}

// section is a repository as a .repo file has it, without user name and password. Key is the file of its public keys, "" for none.
func section(r repositories.Repository, uri, key string, checkSignatures bool) []byte {
	d := r.Description
	kind := d.SourceType
	if kind == "" {
		kind = "baseurl"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "[%s]\nname=%s\n%s=%s\nenabled=1\n", r.Alias, r.Alias, kind, uri)
	if d.Priority != 0 {
		fmt.Fprintf(&text, "priority=%d\n", d.Priority)
	}
	fmt.Fprintf(&text, "gpgcheck=%s\nrepo_gpgcheck=%s\n", number(d.PackageGPGCheck.Or(checkSignatures)), number(d.RepoGPGCheck.Or(false)))
	if key != "" {
		fmt.Fprintf(&text, "gpgkey=file://%s\n", key)
	}
	return []byte(text.String())
}

// withCredentials adds user name and password to the first section of a .repo file.
func withCredentials(data []byte, r repositories.Repository) ([]byte, error) {
	if r.User == "" && r.Password == "" {
		return data, nil
	}
	if r.Password != strings.TrimSpace(r.Password) || r.User != strings.TrimSpace(r.User) {
		return nil, r.Description.Errorf("password", "", "a user name or password with blanks at its ends can't be handed to dnf")
	}
	var text strings.Builder
	done := false
	for line := range strings.Lines(string(data)) {
		text.WriteString(strings.TrimSuffix(line, "\n") + "\n")
		if !done && strings.HasPrefix(strings.TrimSpace(line), "[") {
			fmt.Fprintf(&text, "username=%s\npassword=%s\n", r.User, r.Password)
			done = true
		}
	}
	return []byte(text.String()), nil
}

// repositoryFiles are the .repo files of the session, made when they are first needed.
func (s *Session) repositoryFiles(ctx context.Context, t tool) ([]sandbox.File, error) {
	if s.repoFiles != nil || s.Own() {
		return s.repoFiles, nil
	}
	var all []sandbox.File
	for _, r := range s.Repositories.List {
		uri := r.URI
		if r.Description.Type == "rpm-dir" {
			var err error
			if uri, err = s.index(ctx, r); err != nil {
				return nil, err
			}
		}
		data, err := r.Customize(ctx, repositories.CustomizeOptions{
			Files: s.Files, Run: s.runner(t), Workdir: s.Dir, Name: r.Alias + ".repo", Data: section(r, uri, r.KeyFile, s.Image.RPM.CheckSignatures),
		})
		if err != nil {
			return nil, err
		}
		if data, err = withCredentials(data, r); err != nil {
			return nil, err
		}
		all = append(all, sandbox.File{Path: reposDir + "/" + r.Alias + ".repo", Data: data, Perm: 0o600})
	}
	s.repoFiles = all
	return all, nil
}
