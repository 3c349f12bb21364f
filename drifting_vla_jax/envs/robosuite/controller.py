"""Absolute poses for a torque-controlled arm: operational-space control of one site of a MuJoCo model.

robosuite's own controller (stiffness 150 1/s^2, critically damped, no velocity of the target) is 2 / sqrt(150) = 0.16 s behind
a target that moves evenly, three control steps of 20 Hz: too late for targets that were recorded one step ahead. Here a control
step is a straight ramp from where the hand IS to the target, position and rotation, with its velocity fed forward (Khatib 1987,
unified formulation):

    F    = Lambda (stiffness * e + damping * (v_ramp - J qd)),   Lambda = (J M^-1 J^T)^-1
    tau  = J^T F + bias + (I - J^T Jbar^T) M (rest posture's spring and damper),   Jbar = M^-1 J^T Lambda

so that targets that move evenly are met when their step ends. Nothing is remembered from one control step to the next.

Measured (docs/results/robosuite.md): of ten constant poses nine are held to 0.7 mm, one to 3 mm, all to 0.14 degrees; a target at
0.2 m/s and 0.8 rad/s is met to 0.3 mm and 0.8 degrees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import mujoco

STIFFNESS = np.repeat([900.0, 400.0], 3)  # 1/s^2, of position and of rotation; both are critically damped
DAMPING = 2 * np.sqrt(STIFFNESS)
POSTURE_STIFFNESS, POSTURE_DAMPING = 10.0, 6.3  # of the seventh joint's freedom
# What a ramp may ask for, m/s and rad/s, and what it must be possible to stop with, m/s^2 and rad/s^2. robosuite's Panda is
# no faster: it gives its joints 0.7 to 5 kg m^2 of armature, and the wrist's motors have 12 Nm.
MAX_SPEED, MAX_TURN = 0.6, 1.6
BRAKE, TURN_BRAKE = 4.0, 8.0
MAX_ACCELERATION, MAX_TURN_ACCELERATION = 8.0, 16.0  # of the site, that is ever asked of the motors
SINGULAR = 0.01  # added to J M^-1 J^T: no great force where the arm cannot move


class PoseController:
    """Computes an arm's motor torques.

    Args:
      model, data: the simulation; ``step`` expects data after ``mj_step1`` (positions and velocities are forwarded).
      site: number of the site that is controlled.
      joints: names of the arm's joints, base to hand.
      actuators: names of their motors, in the same order.
    """

    def __init__(
        self, model: mujoco.MjModel, data: mujoco.MjData, site: int, joints: Sequence[str], actuators: Sequence[str]
    ):
        self._model, self._data, self._site = model, data, site
        self._dofs = np.array([model.joint(name).dofadr[0] for name in joints])
        self._qpos = np.array([model.joint(name).qposadr[0] for name in joints])
        self._motors = np.array([model.actuator(name).id for name in actuators])
        self._limits = model.actuator_ctrlrange[self._motors]
        self._jacobian, self._mass = np.zeros((6, model.nv)), np.zeros((model.nv, model.nv))
        self.rest()

    def rest(self) -> None:
        """Makes the present joint angles the posture that the arm's spare freedom is drawn to."""
        self._posture = self._data.qpos[self._qpos].copy()

    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Position (metres, world) and quaternion w x y z of the site."""
        import mujoco

        quaternion = np.zeros(4)
        mujoco.mju_mat2Quat(quaternion, self._data.site_xmat[self._site])
        return self._data.site_xpos[self._site].copy(), quaternion

    def aim(self, position: np.ndarray, quaternion: np.ndarray, seconds: float) -> None:
        """Begins a ramp from the present pose to ``position`` and ``quaternion`` (w x y z) that takes ``seconds``."""
        import mujoco

        self._start, self._turned = self.pose()
        turn = np.zeros(3)
        mujoco.mju_subQuat(turn, np.asarray(quaternion, np.float64), self._turned)
        self._velocity = _ramp(position - self._start, seconds, MAX_SPEED, BRAKE)
        self._turn = _ramp(turn, seconds, MAX_TURN, TURN_BRAKE)  # in the frame of the site as it was

    def step(self, elapsed: float) -> None:
        """Sets the motors' torques for what ends ``elapsed`` seconds after the ramp began."""
        import mujoco

        data, dofs = self._data, self._dofs
        position, quaternion = self.pose()
        wanted, frame, error = self._turned.copy(), np.zeros(9), np.zeros(3)
        mujoco.mju_quat2Mat(frame, wanted)
        mujoco.mju_quatIntegrate(wanted, self._turn, elapsed)
        mujoco.mju_subQuat(error, wanted, quaternion)  # in the frame of the site as it is
        error = data.site_xmat[self._site].reshape(3, 3) @ error
        offset = np.concatenate([self._start + elapsed * self._velocity - position, error])
        velocity = np.concatenate([self._velocity, frame.reshape(3, 3) @ self._turn])
        mujoco.mj_jacSite(self._model, data, self._jacobian[:3], self._jacobian[3:], self._site)
        mujoco.mj_fullM(self._model, self._mass, data.qM)
        jacobian, mass, qvel = self._jacobian[:, dofs], self._mass[np.ix_(dofs, dofs)], data.qvel[dofs]
        inverse = np.linalg.solve(mass, jacobian.T)
        inertia = np.linalg.inv(jacobian @ inverse + SINGULAR * np.eye(6))
        wish = STIFFNESS * offset + DAMPING * (velocity - jacobian @ qvel)
        force = inertia @ np.append(_at_most(wish[:3], MAX_ACCELERATION), _at_most(wish[3:], MAX_TURN_ACCELERATION))
        posture = POSTURE_STIFFNESS * (self._posture - data.qpos[self._qpos]) - POSTURE_DAMPING * qvel
        free = posture - inverse @ (inertia @ (jacobian @ posture))  # of accelerations: what the hand does not feel
        torque, bias = jacobian.T @ force + mass @ free, data.qfrc_bias[dofs]
        room = np.where(torque > 0, self._limits[:, 1] - bias, self._limits[:, 0] - bias)
        share = min(1.0, np.min(room / np.where(torque == 0, np.inf, torque), where=torque != 0, initial=1.0))
        # All torques less, not the largest alone: the force still points where it should.
        data.ctrl[self._motors] = bias + max(share, 0.0) * torque


def _ramp(way: np.ndarray, seconds: float, speed: float, brake: float) -> np.ndarray:
    """The velocity of a ramp: there in ``seconds``, unless that were too fast, or too fast to stop there."""
    length = np.linalg.norm(way)
    return _at_most(way / seconds, min(speed, np.sqrt(2 * brake * length)))


def _at_most(vector: np.ndarray, length: float) -> np.ndarray:
    norm = np.linalg.norm(vector)
    return vector if norm <= length else vector * (length / norm)
