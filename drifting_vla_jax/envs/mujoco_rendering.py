"""Pictures of a MuJoCo scene without a screen: which OpenGL to use, and the cheapest honest way to draw a frame.

MuJoCo reads MUJOCO_GL when it is imported, so `choose_backend` must run BEFORE the first `import mujoco`; it asks the
system's libraries directly. MUJOCO_GL is respected when set. Otherwise EGL is taken where a device answers (a GPU, or
Mesa's llvmpipe), else OSMesa, else there is one clear error.

At a policy's image sizes the cost of a software-rendered frame is its triangles, not its pixels: the Sawyer arm has
65,000 of them for a 64 x 64 picture. So meshes are drawn no finer than a pixel, which is 3 to 4 times faster and looks
the same; shadows, reflections and multisampling are off.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import ctypes.util
import functools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import mujoco

APT_LINE = "apt-get install -y libosmesa6 libegl-mesa0"

PIXEL_METRES = 0.9  # what a picture's width spans at the distance of the table: a pixel is this over the size
SMALL_MESH_FACES = 1000  # objects of so few triangles are drawn as they are

_EGL_PLATFORM_DEVICE = 0x313F


class RendererMissingError(ValueError):
    """No OpenGL library that can draw without a screen."""


def _egl_answers() -> bool:
    """Whether some EGL device can be initialised: the same calls that MuJoCo's EGL context makes."""
    try:
        egl = ctypes.CDLL(ctypes.util.find_library("EGL") or "libEGL.so.1")
    except OSError:
        return False
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    addresses = [egl.eglGetProcAddress(n) for n in (b"eglQueryDevicesEXT", b"eglGetPlatformDisplayEXT")]
    if not all(addresses):
        return False
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(addresses[0])
    display_of = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(addresses[1])
    devices, count = (ctypes.c_void_p * 16)(), ctypes.c_int(0)
    if not query(len(devices), devices, ctypes.byref(count)):
        return False
    egl.eglInitialize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    for device in devices[: count.value]:
        display = display_of(_EGL_PLATFORM_DEVICE, device, None)
        if display and egl.eglInitialize(display, None, None):
            return True
    return False


def _osmesa_answers() -> bool:
    try:
        ctypes.CDLL(ctypes.util.find_library("OSMesa") or "libOSMesa.so.8")
    except OSError:
        return False
    return True


def _display_answers() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


_ANSWERS = {"egl": _egl_answers, "osmesa": _osmesa_answers, "glfw": _display_answers}


def choose_backend() -> str:
    """Sets MUJOCO_GL, unless the user did, to a backend that works here, and returns it. Call before importing mujoco.

    Raises:
      RendererMissingError: neither EGL nor OSMesa works, or not the one that MUJOCO_GL names; the message has the line
        that installs them.
    """
    # One simulator per core is faster than one picture on all cores: Mesa's own rasteriser threads are not wanted.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    chosen = next((name for name in ([asked] if asked else ("egl", "osmesa")) if _ANSWERS.get(name, bool)()), None)
    if chosen is None and asked:
        raise RendererMissingError(
            f"MUJOCO_GL is {asked!r}, which does not draw on this machine; unset it (egl, osmesa and glfw are known), "
            f"or run `{APT_LINE}`"
        )
    if chosen is None:
        raise RendererMissingError(f"no renderer: neither EGL nor OSMesa works on this machine; run `{APT_LINE}`")
    os.environ["MUJOCO_GL"] = chosen
    return chosen


class SceneRenderer:
    """Draws one model's scene at one size. Costs about half a second to make.

    Args:
      model: drawn as it is when this is made, in shape; positions are read from the data at every frame.
      size: height and width of a picture, pixels.
      collision_shapes: whether shapes of group 0 are drawn, where models keep what only collides, and marks (sites).
    """

    def __init__(self, model: mujoco.MjModel, size: int, collision_shapes: bool = True):
        import mujoco

        self._options = mujoco.MjvOption()
        if not collision_shapes:
            self._options.geomgroup[0] = 0
            self._options.sitegroup[:] = 0

        visual = model.vis
        visual.global_.offwidth = visual.global_.offheight = size
        visual.quality.shadowsize = visual.quality.offsamples = 0
        visual.quality.numslices, visual.quality.numstacks = (12, 6) if size < 200 else (28, 16)
        with _coarse_meshes(model, cell=PIXEL_METRES / size):
            self._renderer = mujoco.Renderer(model, size, size)
        flags = mujoco.mjtRndFlag
        for flag in (flags.mjRND_SHADOW, flags.mjRND_REFLECTION, flags.mjRND_SKYBOX, flags.mjRND_HAZE):
            self._renderer.scene.flags[flag] = 0
        # A context that is still open when the interpreter takes its libraries down fails, noisily. Registered after
        # the context was made, this runs before MuJoCo's own farewell to EGL.
        atexit.register(self.close)

    def render(self, data: mujoco.MjData, camera: mujoco.MjvCamera | str) -> np.ndarray:
        """Returns the view, uint8 [size, size, 3]; ``data`` must have been forwarded."""
        self._renderer.update_scene(data, camera, self._options)
        return self._renderer.render()

    def project(self, data: mujoco.MjData, camera: mujoco.MjvCamera | str, points: np.ndarray) -> np.ndarray:
        """World points [n, 3] -> shares [n, 2] of the view's picture, to the right and down; NaN behind the camera."""
        self._renderer.update_scene(data, camera, self._options)
        eyes = self._renderer.scene.camera  # left and right, the same where there is no stereo
        position, forward, up = (
            np.mean([getattr(eye, name) for eye in eyes], axis=0) for name in ("pos", "forward", "up")
        )
        away = np.asarray(points) - position
        depth = away @ forward
        depth = np.where(depth > 0, depth, np.nan)
        half = eyes[0].frustum_top / eyes[0].frustum_near  # of the square picture, at a distance of 1
        across, upward = away @ np.cross(forward, up) / depth, away @ up / depth
        return np.stack([0.5 + across / (2 * half), 0.5 - upward / (2 * half)], axis=1)

    def close(self) -> None:
        """Frees the OpenGL context; a second call does nothing."""
        atexit.unregister(self.close)
        self._renderer.close()


class OffscreenRenderer:
    """The renderers of one model, made as sizes are asked for, and where each camera's last picture was taken from.

    Args:
      model, collision_shapes: see ``SceneRenderer``.
    """

    def __init__(self, model: mujoco.MjModel, collision_shapes: bool = True):
        self._make = functools.partial(SceneRenderer, model, collision_shapes=collision_shapes)
        self._renderers: dict[int, SceneRenderer] = {}
        self._last: dict[str, tuple[SceneRenderer, mujoco.MjvCamera | str]] = {}

    def render(self, name: str, size: int, data: mujoco.MjData, camera: mujoco.MjvCamera | str) -> np.ndarray:
        """The view of the camera of this name, uint8 [size, size, 3]."""
        if size not in self._renderers:
            self._renderers[size] = self._make(size)
        self._last[name] = self._renderers[size], camera
        return self._renderers[size].render(data, camera)

    def project(self, name: str, data: mujoco.MjData, points: np.ndarray) -> np.ndarray:
        """Where points are in that camera's last picture, see ``SceneRenderer.project``; ValueError if there is none."""
        if name not in self._last:
            raise ValueError(f"no picture of camera {name!r} was rendered yet; call render first")
        renderer, camera = self._last[name]
        return renderer.project(data, camera, points)

    def close(self) -> None:
        """Frees the renderers; a second call does nothing."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()
        self._last.clear()


@contextlib.contextmanager
def _coarse_meshes(model: mujoco.MjModel, cell: float) -> Iterator[None]:
    """While it lasts, the model's detailed meshes have no triangle finer than ``cell`` (metres).

    A mesh is copied to the renderer once, when its context is made. Only the face lists are touched, which physics never
    reads (collisions use vertices and hulls), and they are put back.
    """
    names = ("mesh_face", "mesh_facenormal", "mesh_facetexcoord", "mesh_facenum")
    saved = {name: getattr(model, name).copy() for name in names}
    try:
        for mesh in range(model.nmesh):
            start, count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
            if count <= SMALL_MESH_FACES:
                continue
            first = model.mesh_vertadr[mesh]
            vertices = model.mesh_vert[first : first + model.mesh_vertnum[mesh]]
            faces, keep = _cluster(vertices, model.mesh_face[start : start + count], cell)
            model.mesh_face[start : start + len(faces)] = faces
            for name in ("mesh_facenormal", "mesh_facetexcoord"):
                getattr(model, name)[start : start + len(faces)] = saved[name][start : start + count][keep]
            model.mesh_facenum[mesh] = len(faces)
        yield
    finally:
        for name, value in saved.items():
            getattr(model, name)[:] = value


def _cluster(vertices: np.ndarray, faces: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Merges the vertices of each cube of side ``cell`` into the one nearest their mean.

    Args:
      vertices: float [n, 3]. faces: int [m, 3].

    Returns:
      The faces that remain, int [k, 3], and which of the m they were, bool [m].
    """
    _, cube, count = np.unique(
        np.floor(vertices / cell).astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    cube = cube.ravel()
    mean = np.stack([np.bincount(cube, vertices[:, i]) for i in range(3)], axis=1) / count[:, None]
    order = np.lexsort((np.sum((vertices - mean[cube]) ** 2, axis=1), cube))
    nearest = order[np.r_[True, np.diff(cube[order]) > 0]]
    merged = nearest[cube][faces]
    keep = np.all(merged != np.roll(merged, 1, axis=1), axis=1)
    once = np.zeros(len(merged), bool)
    once[np.unique(np.sort(merged, axis=1), axis=0, return_index=True)[1]] = True
    keep &= once
    return merged[keep], keep
