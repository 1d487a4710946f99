package system

import (
	"context"
	"errors"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/rootfs"
)

// Information is what KIWI's image info tells of a description, in its form.
type Information struct {
	Image string `json:"image"`
	// ResolvedPackages are the packages that a build would install, by name; nil if that was not asked for.
	ResolvedPackages map[string]ResolvedPackage `json:"resolved-packages,omitempty"`

	description *description.Image
}

// Description is the description that the information is about.
func (i *Information) Description() *description.Image { return i.description }

// ResolvedPackage is one package that would be installed.
type ResolvedPackage struct {
	Source string `json:"source"` // of its repository
	// InstallSize is in bytes, -1 if the repository does not tell.
	InstallSize int64  `json:"installsize_bytes"`
	Arch        string `json:"arch"`
	Version     string `json:"version"`
	// Status is StatusListed or StatusAdded.
	Status string `json:"status"`
}

// Why a package would be installed.
const (
	StatusListed = "listed_in_kiwi_description"
	StatusAdded  = "added_by_dependency_solver"
)

// Info tells about a description, and with resolve asks its repositories which packages would be installed. It changes nothing.
func Info(ctx context.Context, opts Options, resolve bool) (*Information, error) {
	j, err := newJob(opts, true)
	if err != nil {
		return nil, err
	}
	info, err := j.info(ctx, resolve)
	return info, errors.Join(err, j.close())
}

func (j *job) info(ctx context.Context, resolve bool) (*Information, error) {
	if j.image == nil {
		return nil, errors.New("telling about an image: no description given")
	}
	info := &Information{Image: j.image.Name, description: j.image}
	if !resolve {
		return info, nil
	}
	if err := j.start(ctx, ""); err != nil {
		return nil, err
	}
	transaction, err := rootfs.Simulate(ctx, j.request(rootfs.Prepare, ""))
	if err != nil {
		return nil, err
	}
	info.ResolvedPackages = map[string]ResolvedPackage{}
	for _, p := range transaction.Packages {
		resolved := ResolvedPackage{Source: p.Repository, InstallSize: p.Installed, Arch: p.Arch, Version: p.Version, Status: StatusAdded}
		if p.Listed {
			resolved.Status = StatusListed
		}
		info.ResolvedPackages[p.Name] = resolved
	}
	return info, nil
}
