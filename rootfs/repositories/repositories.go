// Package repositories turns the repositories of a description into what package managers read: addresses, directories of this machine, keys and
// credentials. It knows the schemes of addresses and no package manager.
package repositories

import (
	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// Dir is where programs in a sandbox find the directories of this machine that are repositories, and the keys.
const Dir = "/run/imgbuild/repositories"

// Repository is one repository.
type Repository struct {
	// Description is what the user wrote: type, priority, components, distribution, the switches for signatures, and where to point an error.
	Description description.Repository
	// Alias is fit for a file name or a section of an INI file, the same in each build, and unique in its set.
	Alias string
	// URI is the address as a program in a sandbox knows it, without secrets: http, https or ftp, or file:///... for a directory of this machine.
	URI string
	// Local is the directory on this machine, "" for a repository in the network.
	Local string
	// Keys are the OpenPGP public keys as one binary keyring, nil if the description names none. KeyFile is where a program in a sandbox finds
	// them, ASCII-armored, "" if there are none.
	Keys    []byte
	KeyFile string
	// User and Password are for the server, "" if it asks for none.
	User, Password string
}

// Set is the repositories of a build.
type Set struct {
	// List is the repositories that packages are installed from, in order.
	List []Repository
	// Image is the repositories that the image itself is to have (imageinclude and imageonly).
	Image []Repository
	// Binds and Files are what every sandbox needs whose programs use the repositories.
	Binds []sandbox.Bind
	Files []sandbox.File
	// Secrets must not appear in a log or an error.
	Secrets []string
}

// Options are what Open works with.
type Options struct {
	Image *description.Image
	Files files.Source
	// Workdir is an existing directory for what must be unpacked, such as the content of an ISO image.
	Workdir string
	// OpenBuildService is the address that obs://PROJECT/REPOSITORY is below; "" is the public one.
	OpenBuildService string
	// Offline forbids fetching keys from the network.
	Offline bool
}
