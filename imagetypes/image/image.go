// Package image is the one interface between the commands and the builders of image types: what a builder gets, what
// it can do and what it leaves behind.
//
// A builder turns a finished root tree into the files of one image type. It knows nothing of package managers, registries or
// containers of the store, and writes nothing but files in [Request.Dir].
package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
)

// Request is everything a builder needs. A builder changes none of it.
type Request struct {
	// Tree is the finished root tree: packages, users and files are in place, kernels have their initrd. The description's own
	// directory (/image) may still be in it; builders leave out what [WithoutBuildFiles] leaves out.
	Tree *layers.Tree
	// Description is the resolved description; Description.Type is what is to be built.
	Description *description.Image
	// Base is the container that the tree began as, where the description derives one from another; nil for none.
	Base *Base
	// Runner runs programs on root trees, such as the description's scripts; nil where there is none: then no scripts run.
	Runner Runner
	// BaseName is what every result's name begins with: <name>.<arch>-<version>.
	BaseName string
	// Dir is the directory, which exists, in which results are written under their final names. It is a staging directory: nobody
	// looks at it before the whole build is done.
	Dir string
	// Workdir is an existing directory for files that are not results. Empty means a new directory below Dir.
	Workdir string
	// XZ is arguments for the program xz, where the user wants it to compress what is a .xz; empty for this program's own writer.
	XZ []string
	// BundleCompress says whether a bundle compresses what can become smaller; nil leaves it to the kind of file, see [Request.Compress].
	BundleCompress *bool
	// Repro gives ids and times.
	Repro repro.Source
	// Observe, if not nil, is asked before the content of one of the tree's files is read where the file is to be written besides; nil means nowhere.
	// A builder that reads each file once as it is may serve it, so that nobody else has to read the files again; see [Observing].
	Observe func(n *layers.Node) io.Writer
	// Container says how builders of containers pack and keep theirs.
	Container ContainerOptions
	// Signing is what builders of packages that can be signed sign them with; nil does not.
	Signing *Signing
	// Progress shows long work; nil shows nothing.
	Progress progress.Reporter
	// Log gets what a user may want to know afterwards; nil drops it.
	Log *slog.Logger
}

// Compress says for an image that is not compressed as a whole whether a bundle compresses it: as the user wishes, or else as usual. What is encrypted would not
// become smaller.
func (r *Request) Compress(usual bool) bool {
	if r.Description.Type.LUKS != nil {
		return false
	}
	if r.BundleCompress != nil {
		return *r.BundleCompress
	}
	return usual
}

// ContainerOptions say how a container is packed and kept. The zero value is the usual.
type ContainerOptions struct {
	// Compression of the layer; nil for the form's own: gzip, and none in a docker archive.
	Compression *layers.Compression
	// XZ compresses the archive as a whole.
	XZ bool
	// Keep says that [Artifact.Image] is wanted, for a registry, and NoArchive that nothing else is.
	Keep, NoArchive bool
}

// Signing is a key with its certificates: either Key and Certificates, or PKCS12 with all of it.
type Signing struct {
	Key, Certificates string // files in PEM; of the certificates the signer's own is the first
	PKCS12            string // a file
	Password          []byte // of the key; nil for none
}

// Base is a container that another is derived from.
type Base struct {
	// Name is the reference that the description gives.
	Name string
	// Image has the layers, Tree is the root tree that they make.
	Image v1.Image
	Tree  *layers.Tree
}

// Artifact is one file that a builder left in Request.Dir.
type Artifact struct {
	// Key is the name of this kind of result in KIWI's kiwi.result.json, one of the Key constants.
	Key string
	// File is the file's name in Request.Dir, without a directory.
	File string
	// Compress says that a bundle should compress the file.
	Compress bool
	// UseForBundle says that the file belongs in a bundle. What it is false for is an intermediate result.
	UseForBundle bool
	// SHA256 is the file's digest in lower-case hexadecimal, if the builder knows it; empty lets somebody else count it.
	SHA256 string
	// Container is what the file holds, where [ContainerOptions.Keep] asks for it.
	Container *Container
}

// Container is a container that was built. Its layers lie in Request.Dir.
type Container struct {
	Image v1.Image
	// Names are those that it has by its description, the first one first, each with a tag.
	Names []string
}

// The keys of results, as in KIWI's kiwi.result.json.
const (
	KeyRootArchive     = "root_archive"
	KeyFilesystemImage = "filesystem_image"
	KeyDiskImage       = "disk_image"
	KeyDiskFormatImage = "disk_format_image"
	KeyMachineSettings = "disk_format_machine_settings"
	KeyLiveImage       = "live_image"
	KeyInstallImage    = "installation_image"
	KeyInstallPXE      = "installation_pxe_archive"
	KeyContainer       = "container"
	KeyKISArchive      = "kis_archive"
	KeyXenHypervisor   = "xen_hypervisor"
	KeyPackages        = "image_packages"
	KeyChanges         = "image_changes"
	KeyVerified        = "image_verified"
	KeyBundleFormat    = "bundle_format"
)

// Builder makes one family of image types. A Builder has no state: one value serves any number of requests, also at once.
type Builder interface {
	// Check refuses a request that Build can't fulfil, before any work is done: settings that contradict each other, a root tree
	// without kernel, a program that is missing on this machine. Errors of the root tree are *[TreeError], those of the description
	// name the place in it.
	Check(ctx context.Context, r *Request) error
	// Plan says in a few lines of text what Build would make, with sizes. It writes nothing.
	Plan(ctx context.Context, r *Request) (string, error)
	// Build makes the image and returns the files it left in r.Dir, most important first. If it fails, what it left there is
	// of no use.
	Build(ctx context.Context, r *Request) ([]Artifact, error)
}

// Observing is a [Builder] that may serve [Request.Observe].
type Observing interface {
	// Observes reports whether Build would for this request.
	Observes(r *Request) bool
}

// TreeError says that the root tree lacks something that the image type needs.
type TreeError struct {
	Missing string // what is missing, such as "a kernel (/boot/vmlinuz-*)"
	Need    string // who needs it, such as "image type oem"
	Hint    string // the way out, such as "add the package linux-image-amd64 to the description"
}

// Error implements error.
func (e *TreeError) Error() string {
	s := fmt.Sprintf("the root tree has no %s, which %s needs", e.Missing, e.Need)
	if e.Hint != "" {
		s += ": " + e.Hint
	}
	return s
}

// NoKernel says that the root tree has no kernel, and which packages have one.
func NoKernel(need string) *TreeError {
	return &TreeError{Missing: "kernel (/boot/vmlinuz-VERSION)", Need: need,
		Hint: "add a kernel package to the description, such as linux-image-amd64 (Debian), kernel (Fedora) or kernel-default (openSUSE), or a container that has one"}
}

// Placed puts the place in the description before an error that has come of it; nil stays nil.
func Placed(at description.Position, err error) error {
	if err == nil || at.IsZero() {
		return err
	}
	return fmt.Errorf("%s: %w", at, err)
}

// Filled checks that the request is whole and returns a copy in which Log and Progress are set: to ones that do nothing if they were nil.
func (r *Request) Filled() (*Request, error) {
	switch {
	case r.Tree == nil:
		return nil, errors.New("building an image: no root tree given")
	case r.Description == nil:
		return nil, errors.New("building an image: no description given")
	case r.BaseName == "":
		return nil, errors.New("building an image: no name for the results given")
	}
	filled := *r
	if filled.Log == nil {
		filled.Log = slog.New(slog.DiscardHandler)
	}
	if filled.Progress == nil {
		filled.Progress = progress.Discard
	}
	return &filled, nil
}

// Scratch makes a new directory for one step's files that are not results. The caller calls remove when done.
func (r *Request) Scratch(step string) (dir string, remove func(), err error) {
	parent := r.Workdir
	if parent == "" {
		parent = r.Dir
	}
	dir, err = os.MkdirTemp(parent, "."+step+"-")
	if err != nil {
		return "", nil, fmt.Errorf("making a directory for temporary files: %w", err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}
