// Package packages is what package managers have in common: what they are asked, where their programs run, and what they answer.
//
// Each manager is a package beside this one, with a function Open that takes [Options] and gives a [Session]. A package manager's programs run
// in one of two places. Inside is the root tree itself, by the tree's own programs: that is how packages are added to a tree that has
// its manager. Outside is this machine, or a container that has the manager, with the root tree as a directory in view: that is how an empty tree gets
// its first packages, and how a tree without a manager gets any.
package packages

import (
	"context"
	"log/slog"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// TargetDir is where a program that runs outside finds the root tree.
const TargetDir = sandbox.TargetDir

// Options are what a session works with. A session changes none of it.
type Options struct {
	// Image is the description: the settings of the package manager, and positions for errors.
	Image *description.Image
	// Repositories are those that packages may come from, in order; none means those that the root tree is set up with.
	Repositories *repositories.Set
	// Files has the description's files.
	Files files.Source
	// Tree returns the root tree as it is now. It is looked at only.
	Tree func(ctx context.Context) (*layers.Tree, error)
	// Inside runs a program of the root tree in it.
	Inside func(ctx context.Context, spec sandbox.Spec) error
	// Outside runs a program of this machine or of a container, with the root tree in view as TargetDir. Its error is a
	// *command.MissingError where neither has the program.
	Outside func(ctx context.Context, spec sandbox.Spec) error
	// Unpacked returns the directory that the root tree is in, for a session that writes files into it by itself: no program may run there meanwhile.
	Unpacked func(ctx context.Context) (dir string, err error)
	// Workdir is an existing directory in which the session makes one of its own.
	Workdir string
	// Cache is a directory for downloaded packages and lists that later builds use again; "" is none.
	Cache string
	// Offline forbids the network: what is not in Cache is an error that names it.
	Offline bool
	// Locked, where it is not nil, are the only packages that may be installed, with their exact versions and checksums.
	Locked []Package
	// Arch is the architecture of the root tree, as uname -m gives it.
	Arch string
	// Emulated says that programs of the tree run slowly here, being of another architecture: what can be done from outside is better done there.
	Emulated bool
	// Progress shows what the manager does; Log gets its output.
	Progress progress.Reporter
	Log      *slog.Logger
}

// Session is a package manager at work on one root tree with one set of repositories.
type Session interface {
	// Bootstrap installs packages, collections and products from outside, into a tree that need not have anything.
	Bootstrap(ctx context.Context, set description.PackageSet) error
	// Install installs packages, collections and products that are not there yet.
	Install(ctx context.Context, set description.PackageSet) error
	// Simulate says what Bootstrap would add to an empty tree, or Install to one that has the manager, without doing it: dependencies included.
	Simulate(ctx context.Context, set description.PackageSet) (Transaction, error)
	// Update brings all packages of the tree up to what the repositories have.
	Update(ctx context.Context) error
	// Uninstall removes packages with what depends on them and with what was only installed for them.
	Uninstall(ctx context.Context, list []description.Package) error
	// Delete removes packages by force: nothing else, whatever depends on them.
	Delete(ctx context.Context, list []description.Package) error
	// Installed are the packages that this session has installed, for the lock: with versions and checksums, in order of names.
	Installed() []Package
	// Close removes what the session has on this machine. What it left in the root tree to work is gone too.
	Close() error
}

// Package is one package of a repository.
type Package struct {
	Name       string `json:"name"`
	Version    string `json:"version"`              // as the manager writes it, [EPOCH:]VERSION[-RELEASE]
	Arch       string `json:"arch"`                 // as the manager writes it
	Checksum   string `json:"checksum,omitempty"`   // ALGORITHM:HEX of the package's file, "" if it is not known
	Repository string `json:"repository,omitempty"` // alias, or address without secrets
	File       string `json:"file,omitempty"`       // name of the package's file
	Download   int64  `json:"download"`             // bytes, -1 if they are not known
	Installed  int64  `json:"installed"`            // bytes, -1 if they are not known
	// Listed says that the description names it; else it is there for another one.
	Listed bool `json:"listed"`
}

// Transaction is what an installation would do.
type Transaction struct {
	Packages []Package
	// Growth is by how many bytes the tree would grow, as far as the packages tell.
	Growth int64
}

// Download is how many bytes would be fetched, as far as they are known.
func (t Transaction) Download() (n int64) {
	for _, p := range t.Packages {
		n += max(0, p.Download)
	}
	return n
}

// String is NAME-VERSION.ARCH.
func (p Package) String() string {
	text := p.Name + "-" + p.Version
	if p.Arch != "" {
		text += "." + p.Arch
	}
	return text
}
